"""Choose the formats of an answer from the `Accept` header (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Iterator, Sequence

from app.errors import NotAcceptable
from app.http.fields import parameter, split
from app.pictures.encode import writable_formats
from app.pictures.layout import AnswerFormat

_QVALUE = re.compile(r"[01](\.\d{0,3})?", re.ASCII)


def accepted_formats(accept: str) -> Sequence[AnswerFormat]:
    """Return the accepted formats, in order of preference; among equals, PNG comes first.

    Malformed members are ignored; a header without a valid member accepts everything.

    Raises:
        NotAcceptable: the header rules out every format.
    """
    weights = dict(_weights(accept))
    formats = writable_formats()
    if not weights:
        return formats
    weighed = {form.name: _weight(form.media_type, weights) for form in formats}
    accepted = [form for form in formats if weighed[form.name] > 0]
    if not accepted:
        offered = ", ".join(form.media_type for form in formats)
        raise NotAcceptable(f"Accept: {accept[:200]} allows none of {offered}; accept one of these or omit it")
    return sorted(accepted, key=lambda form: -weighed[form.name])


def of_result(accept: str) -> str:
    """Return the part of `Accept` that applies to a job's result; nothing if it allows JSON but no picture.

    The answer to a submission is JSON, so a header that allows only JSON does not restrict the result.
    """
    weights = dict(_weights(accept))
    allows_picture = any(_weight(form.media_type, weights) > 0 for form in writable_formats())
    return "" if not allows_picture and _weight("application/json", weights) > 0 else accept


def _weights(accept: str) -> Iterator[tuple[tuple[str, str], float]]:
    for member in split(accept, ","):
        media_range, *parameters = split(member, ";")
        kind, slash, subtype = media_range.lower().partition("/")
        if not (kind and slash and subtype):
            continue
        q = next((value for name, value in map(parameter, parameters) if name == "q"), "1")
        yield (kind.strip(), subtype.strip()), min(float(q), 1.0) if _QVALUE.fullmatch(q) else 1.0


def _weight(media_type: str, weights: dict[tuple[str, str], float]) -> float:
    """Return the weight of the most specific range that covers the type; 0 if none does."""
    kind, subtype = media_type.split("/")
    ranges = ((kind, subtype), (kind, "*"), ("*", "*"))
    return next((weights[covered] for covered in ranges if covered in weights), 0.0)
