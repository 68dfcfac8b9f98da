"""Problem documents (RFC 9457) as exceptions.

Problem
├── BadRequest      400
├── Unauthorized    401
├── Forbidden       403
├── NotFound        404
├── NotAcceptable   406
├── TooSlow         408
├── NotReady        409
├── TooLarge        413
├── Unsupported     415
├── Unprocessable   422
├── Busy            429
├── Unavailable     502, 503
├── DeadlinePassed  504
└── StorageFull     507
"""

import json
from collections.abc import Mapping
from typing import Any


class Problem(Exception):
    """An error answer.

    Attributes:
        status: HTTP status.
        type: last part of the problem type, such as `queue-full`; empty if the answer is not from the service.
        detail: description of the error, with the way out.
        retry_after_s: seconds until a retry makes sense; None if the answer does not say.
        request_id: id of the request in the operator's log.
    """

    def __init__(
        self, detail: str, *, status: int, type: str = "", retry_after_s: float | None = None, request_id: str = ""
    ) -> None:
        super().__init__(f"{status}: {detail}" + (f" (request {request_id})" if request_id else ""))
        self.status = status
        self.type = type
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> "Problem":
        """Make the exception for an answer; the text of a proxy's answer becomes the detail."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict) or "detail" not in document:
            document = {"detail": body[:200].decode(errors="replace").strip() or "an answer without a text"}
        retry_after = headers.get("Retry-After", "")
        return of_document(
            document,
            status=status,
            retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
            request_id=headers.get("X-Request-Id", ""),
        )


def of_document(
    document: Mapping[str, Any], *, status: int | None = None, retry_after_s: float | None = None, request_id: str = ""
) -> Problem:
    """Make the exception for a problem document, such as that of a job."""
    status = status or int(document.get("status", 500))
    return KINDS.get(status, Problem)(
        str(document["detail"]),
        status=status,
        type=str(document.get("type", "")).rpartition(":")[2],
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


class BadRequest(Problem):
    """The request is malformed."""


class Unauthorized(Problem):
    """The service needs a key, or does not know this one."""


class Forbidden(Problem):
    """The key does not allow this."""


class NotFound(Problem):
    """The model or job does not exist."""


class NotAcceptable(Problem):
    """No accepted format can be sent."""


class TooSlow(Problem):
    """The upload arrived too slowly."""


class NotReady(Problem):
    """The result does not exist yet, or never will."""


class TooLarge(Problem):
    """The picture or the answer exceeds a limit."""


class Unsupported(Problem):
    """The upload is not a picture in a format that the service reads."""


class Unprocessable(Problem):
    """The picture is damaged, or a parameter is out of range."""


class Busy(Problem):
    """The queue or the limit of the key is full."""


class Unavailable(Problem):
    """The service is loading, stopping or not reached."""


class DeadlinePassed(Problem):
    """The picture was not done within the time that the request allowed."""


class StorageFull(Problem):
    """The service has no room for jobs."""


KINDS: Mapping[int, type[Problem]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    406: NotAcceptable,
    408: TooSlow,
    409: NotReady,
    413: TooLarge,
    415: Unsupported,
    422: Unprocessable,
    429: Busy,
    502: Unavailable,
    503: Unavailable,
    504: DeadlinePassed,
    507: StorageFull,
}
"""Exceptions by status."""
