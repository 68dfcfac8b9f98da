"""Responses in the OpenAPI document: the statuses of an endpoint, with their problem types."""

from collections.abc import Mapping
from typing import Any

from app.errors import (
    BadRequest,
    CrossSite,
    DeadlinePassed,
    Forbidden,
    HeadTooLarge,
    IdempotencyMismatch,
    Internal,
    JobsOff,
    KeyLimit,
    Misdirected,
    NoSuchJob,
    NoSuchModel,
    NoSuchRange,
    NotAcceptable,
    NotReady,
    PreconditionFailed,
    QueueFull,
    ReadTooSlowly,
    ServiceError,
    SourceRefused,
    StorageFull,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
    Unprocessable,
    UnsupportedEncoding,
    UnsupportedFormat,
    UnsupportedTransfer,
    problem_type,
)
from app.http.problems import MEDIA_TYPE
from app.lifecycle import Phase

Responses = dict[int | str, dict[str, Any]]

ANYWHERE: tuple[type[ServiceError], ...] = (
    BadRequest,
    TooSlow,
    Misdirected,
    HeadTooLarge,
    Internal,
    UnsupportedTransfer,
    Unavailable,
)
WITH_KEY: tuple[type[ServiceError], ...] = (*ANYWHERE, Unauthorized, Forbidden, CrossSite, KeyLimit)
API: tuple[type[ServiceError], ...] = (*WITH_KEY, QueueFull, DeadlinePassed)
"""Problems of all endpoints below /v1: these limit the number of requests and have a deadline."""

UPSCALE: tuple[type[ServiceError], ...] = (
    *API,
    NoSuchModel,
    NotAcceptable,
    TooLarge,
    UnsupportedFormat,
    UnsupportedEncoding,
    Unprocessable,
    ReadTooSlowly,
)
SUBMIT: tuple[type[ServiceError], ...] = (*UPSCALE, IdempotencyMismatch, SourceRefused, JobsOff, StorageFull)
JOB: tuple[type[ServiceError], ...] = (*API, NoSuchJob, NotReady, JobsOff, Unprocessable)
CHANGE: tuple[type[ServiceError], ...] = (*JOB, PreconditionFailed)
RESULT: tuple[type[ServiceError], ...] = (*CHANGE, NoSuchRange)
RELOAD: tuple[type[ServiceError], ...] = (*API, NoSuchModel, Unprocessable)


def texts(descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Describe headers with string values."""
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in descriptions.items()}


REQUEST_ID = texts({"X-Request-Id": "The caller's own, or a new one."})
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
CONTENT_RANGE = texts({"Content-Range": "`bytes FIRST-LAST/SIZE` of the part; `bytes */SIZE` where there is none."})
HEADERS: dict[int, dict[str, Any]] = {
    401: texts({"WWW-Authenticate": "The scheme `Bearer`."}),
    415: texts({"Accept-Encoding": "`identity`, where the body is compressed or encoded."}),
    416: CONTENT_RANGE,
    429: RETRY_AFTER,
    503: RETRY_AFTER,
}

APPLIED = texts(
    {"Preference-Applied": "What was granted of `Prefer`: `respond-async`, or `wait=SECONDS`, the deadline."}
)
RESULT_HEADERS = texts(
    {
        "X-Model": "Name of the model, `@`, and the first digits of the weights' SHA-256.",
        "X-Frames": "`1 of N`, where the upload has N pictures; `N of N` with `frames=all`.",
        "X-Left-Out": "What the upload has and the answer's format cannot hold: names, separated by commas.",
        "X-Format": "`png; upload=tiff`, where `format=same` was answered in another format.",
        "ETag": "Hash of the picture; an answer of `/v1/upscale` that is streamed has none.",
        "Content-Disposition": "The name for saving it.",
    }
)
PICTURE_HEADERS = RESULT_HEADERS | APPLIED | texts({"Server-Timing": "Milliseconds of each stage, such as `decode`."})
STORED_HEADERS = RESULT_HEADERS | texts({"Accept-Ranges": "`bytes`; a zip file has no ranges."})
"""Headers of the result of a job."""


def _request_header(name: str, description: str, *, example: str = "", **schema: int) -> dict[str, Any]:
    """Describe a header of requests."""
    said = {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}
    return said | ({"example": example} if example else {})


PREFER = _request_header(
    "Prefer",
    "`wait=SECONDS` (RFC 7240) sets a deadline, `respond-async` makes a job; others are ignored.",
    example="wait=30",
)
IDEMPOTENCY_KEY = _request_header(
    "Idempotency-Key",
    "A name for this job that you choose: sent again with the same request, it returns the same job.",
    minLength=1,
    maxLength=255,
)
LAST_EVENT_ID = _request_header(
    "Last-Event-ID", "Id of the last event that was received; browsers send it when they reconnect."
)
IF_MATCH = _request_header("If-Match", "`*`, or ETags: the request is refused unless one of them is the current one.")
IF_NONE_MATCH = _request_header("If-None-Match", "`*`, or ETags: the result is not sent if one of them is its own.")
IF_RANGE = _request_header("If-Range", "An ETag: if the result has another, all of it is sent, whatever `Range` says.")
RANGE = _request_header(
    "Range", "`bytes=FIRST-LAST` for a part of the result (RFC 9110, section 14).", example="bytes=0-1023"
)


def servers(root_path: str) -> list[dict[str, Any]]:
    """Return the URL of the API: the configured prefix, else the location of the document.

    The page at /docs thus works below any prefix that a proxy removes, without trusting a header.
    """
    return [{"url": root_path or ".", "description": "This service."}]


PROBLEM = {
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "description": f"`{problem_type('')}` and a name; the description of each answer lists its names.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The value, the limit and the way out."},
        "state": {
            "enum": [phase.value for phase in Phase if phase is not Phase.READY],
            "description": "State of the service, where that is the reason of a 503.",
        },
    },
}
"""Schema of all problem documents: one, so that generators of clients make one class."""


def add_shared(document: dict[str, Any]) -> None:
    """Add the schema of problems, and the header X-Request-Id of all answers."""
    document["components"]["schemas"]["Problem"] = PROBLEM
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                answer["headers"] = REQUEST_ID | answer.get("headers", {})


def problems(kinds: tuple[type[ServiceError], ...]) -> Responses:
    """Return the problem documents of an endpoint, for `responses=`."""
    statuses = sorted({kind.status for kind in kinds})
    return {status: _response(status, [kind for kind in kinds if kind.status == status]) for status in statuses}


def _response(status: int, kinds: list[type[ServiceError]]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"`{kind.type}`: {kind.title}" for kind in kinds),
        "headers": HEADERS.get(status, {}),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
