"""The header Accept -> the format of an answer (RFC 9110, section 12.5.1)."""

import re

from app.errors import NotAcceptable
from app.pictures.encode import FORMATS, AnswerFormat

_RANGE = re.compile(r"\s*(?P<type>[\w.+*-]+)\s*/\s*(?P<subtype>[\w.+*-]+)\s*(?P<parameters>(;.*)?)", re.DOTALL)
_WEIGHT = re.compile(r";\s*q\s*=\s*(?P<q>[01](\.\d{0,3})?)\s*(;|$)", re.IGNORECASE)


def accepted_format(accept: str) -> AnswerFormat:
    """The format that a caller likes best; of equally liked ones the best, which is PNG. Nonsense is passed over.

    Raises:
        NotAcceptable: the header rules out every format.
    """
    weights = dict(_weights(accept))
    if not weights:
        return FORMATS["png"]
    best = max(FORMATS.values(), key=lambda form: _weight(form.media_type, weights))
    if not _weight(best.media_type, weights):
        offered = ", ".join(form.media_type for form in FORMATS.values())
        raise NotAcceptable(f"Accept: {accept[:200]} allows none of {offered}; allow one of these or leave it out")
    return best


def _weights(accept: str) -> list[tuple[tuple[str, str], float]]:
    weights = []
    for part in accept.split(","):
        if found := _RANGE.fullmatch(part):
            q = _WEIGHT.search(found["parameters"])
            weights.append(((found["type"].lower(), found["subtype"].lower()), min(float(q["q"]), 1) if q else 1.0))
    return weights


def _weight(media_type: str, weights: dict[tuple[str, str], float]) -> float:
    """That of the most specific range which covers the type; 0 where none does."""
    kind, subtype = media_type.split("/")
    ranges = ((kind, subtype), (kind, "*"), ("*", "*"))
    return next((weights[covered] for covered in ranges if covered in weights), 0.0)
