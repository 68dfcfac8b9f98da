"""Read a job from a request: pictures in a form or as the raw body, or URLs in a JSON document."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import Request
from pydantic import BeforeValidator, Field, StringConstraints

from app.admission import UploadReservation
from app.errors import BadRequest
from app.http.accept import of_result
from app.http.parameters import Parameters
from app.http.upload import FORM, UploadLimits, media_type, read_body, read_upload
from app.jobs.outbox import DEFAULT_EVENTS, EVENTS
from app.jobs.submission import Submission
from app.record import current_record
from app.text import without_query

JSON = "application/json"
MAX_IDEMPOTENCY_CHARS = 255
MAX_JSON_BYTES = 1024 * 1024
"""Maximum bytes of a JSON document: enough for the longest sources and targets of 100 pictures."""

MAX_MARKS = 20_000
"""Maximum commas and opening brackets in it, which limits its values and thus the time of parsing to a few ms."""

MAX_MEMBERS = 100
"""Maximum members of a JSON document, which has one per option."""

Url = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Urls = Annotated[list[Url], BeforeValidator(_listed, json_schema_input_type=Url | list[Url])]
"""One URL or several."""


class JobParameters(Parameters):
    """Parameters of a job, in the query or as form fields."""

    webhook: Url | None = Field(default=None, description="URL that changes of the job are sent to.")
    webhook_events: str | None = Field(
        default=None,
        description=f"Which of {', '.join(EVENTS)} are sent, separated by commas; by default the last three.",
    )

    def events(self) -> Sequence[str]:
        """Return the events that are sent to the webhook.

        Raises:
            BadRequest: an event is unknown.
        """
        if self.webhook_events is None:
            return DEFAULT_EVENTS
        events = [event.strip() for event in self.webhook_events.split(",") if event.strip()]
        if unknown := next((event for event in events if event not in EVENTS), None):
            shown = without_query(unknown)[:100]
            raise BadRequest(f"webhook_events = {shown!r} is not an event; the events are {', '.join(EVENTS)}")
        return events


class JobDocument(JobParameters):
    """A job whose pictures are read from URLs, as a JSON document."""

    source: Urls = Field(description="URL of the picture, or URLs of several.")
    target: Urls | None = Field(
        default=None, description="Presigned URL that the result is written to with PUT; one for each source."
    )

    def targets(self) -> list[str]:
        """Return the URLs that results are written to.

        Raises:
            BadRequest: their number differs from that of the sources.
        """
        targets = self.target or []
        if targets and len(targets) != len(self.source):
            raise BadRequest(f"there are {len(self.source)} sources and {len(targets)} targets; send one for each")
        return targets


async def read_submission(
    request: Request,
    query: JobParameters,
    limits: UploadLimits,
    reservation: UploadReservation,
    *,
    documents: bool,
    check: Callable[[Submission], None],
) -> Submission:
    """Read a job from a request.

    Args:
        documents: True if the body may be a JSON document.
        check: called with the job before the body is read, if the body is a raw picture.

    Raises:
        BadRequest: the request is malformed.
        RequestValidationError: a parameter is out of range.
        ServiceError: see `read_upload`.
    """
    if documents and media_type(request) == JSON:
        return await _from_json(request, query, limits, reservation)
    if media_type(request) != FORM:
        check(_submission(request, query))
    upload = await read_upload(request, limits, reservation)
    parameters = JobParameters.of(query, upload.parameters)
    return _submission(request, parameters, pictures=upload.pictures, names=upload.names)


async def _from_json(
    request: Request, query: JobParameters, limits: UploadLimits, reservation: UploadReservation
) -> Submission:
    limits = replace(limits, max_bytes=min(limits.max_bytes, MAX_JSON_BYTES))
    body = (await read_body(request, limits, reservation)).picture
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_MARKS:
        raise BadRequest(f"the JSON document has more than {MAX_MARKS} commas and brackets; encode those of URLs")
    try:
        sent = json.loads(body, object_pairs_hook=_members)
    except (ValueError, RecursionError) as error:
        raise BadRequest('the body is not JSON; send {"source": URL}, or a picture with its own media type') from error
    if not isinstance(sent, dict):
        raise BadRequest('the JSON document is not an object; send {"source": URL}')
    _check_lengths(sent, limits.max_pictures)
    document = JobDocument.of(query, sent)
    return _submission(request, document, sources=document.source, targets=document.targets())


def _members(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Make an object of a JSON document; refuses duplicate members."""
    members = dict(pairs)
    if len(members) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise BadRequest(f"the JSON document has {without_query(name)[:100]!r} more than once; give it once")
    return members


def _check_lengths(sent: Mapping[str, object], max_pictures: int) -> None:
    """Refuse too many members or URLs before validation, which takes time and memory."""
    if len(sent) > MAX_MEMBERS:
        raise BadRequest(f"the JSON document has {len(sent)} members; the limit is {MAX_MEMBERS}")
    for name, least in (("source", 1), ("target", 0)):
        urls = sent.get(name)
        if isinstance(urls, list) and not least <= len(urls) <= max_pictures:
            raise BadRequest(f"{name} has {len(urls)} URLs; send {least} to {max_pictures}")


def _submission(
    request: Request,
    parameters: JobParameters,
    *,
    pictures: Sequence[bytes] = (),
    names: Sequence[str] = (),
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Submission:
    record = current_record()
    return Submission(
        key_name=record.key,
        request=parameters.request(of_result(", ".join(request.headers.getlist("accept")))),
        pictures=pictures,
        names=names,
        sources=sources,
        targets=targets,
        webhook=parameters.webhook or "",
        webhook_events=parameters.events(),
        idempotency_key=_idempotency_key(request),
        trace=record.trace_headers,
        request_id=record.id,
    )


def _idempotency_key(request: Request) -> str:
    values = request.headers.getlist("idempotency-key")
    if not values:
        return ""
    if len(values) > 1 or not 1 <= len(values[0]) <= MAX_IDEMPOTENCY_CHARS:
        raise BadRequest(f"send one Idempotency-Key of 1 to {MAX_IDEMPOTENCY_CHARS} characters, or none")
    return values[0]
