"""Errors that callers can get.

    ServiceError
    ├── BadRequest            400  malformed request
    ├── Unauthorized          401  no key, or a wrong one
    ├── Forbidden             403  the key does not allow this
    ├── CrossSite             403  a page of another site sent it
    ├── NoSuchModel           404
    ├── NoSuchJob             404
    ├── TooSlow               408  the request arrived too slowly
    ├── NotAcceptable         406  Accept allows none of our formats
    ├── NotReady              409  a result that is not there yet, a webhook that is being delivered
    ├── PreconditionFailed    412  If-Match names another version
    ├── NoSuchRange           416  a range outside the result
    ├── TooLarge              413  too many bytes or pixels
    ├── UnsupportedFormat     415  not a supported image format
    ├── UnsupportedEncoding   415  a compressed or encoded body
    ├── SourceRefused         422  a URL that may not be read or written, or could not be
    ├── IdempotencyMismatch   422  an Idempotency-Key that was used for another request
    ├── Unprocessable         422  a corrupt image, or a parameter out of range
    ├── Misdirected           421  the name of another host
    ├── QueueFull             429  with Retry-After
    ├── KeyLimit              429  with Retry-After
    ├── HeadTooLarge          431  too long a path, query or headers
    ├── Internal              500  any other exception
    ├── UnsupportedTransfer   501  a body that is neither chunked nor has a length
    ├── JobsOff               501  the service takes no jobs
    ├── StorageFull           507  no room for jobs
    ├── Unavailable           503  loading, stopping or broken, with Retry-After
    └── DeadlinePassed        504
        └── ReadTooSlowly     504  others waited for the memory of the answer

Their text is sent to the caller: it names the value, the limit and the way out, never a path or an internal name. Any
other exception is logged and becomes an `Internal` with a fixed text.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

MAX_DETAIL = 2000
"""Maximum characters of an error's text, which may repeat a part of a file or a request."""

RETRY_S = 5
"""Default `Retry-After`: time to load, or for another instance to take over."""


class ServiceError(Exception):
    """Base class of errors that become problem documents."""

    status: ClassVar[int]
    type: ClassVar[str]
    """Last part of the problem type: stable, for programs."""
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        reason: str = "",
        retry_after_s: int | None = None,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail[:MAX_DETAIL]
        self.reason = reason or self.detail
        """Text for the log, with details that the answer hides, such as an address."""
        self.retry_after_s = retry_after_s
        self.headers = headers or {}
        self.members = members or {}
        """Further members of the problem document."""


def problem_type(kind: str) -> str:
    """Return the URI of a problem type."""
    return f"urn:esrgan-serve:problem:{kind}"


@contextmanager
def about(what: str) -> Iterator[None]:
    """Prefix the text of an error with its subject, such as `picture 2: `."""
    try:
        yield
    except ServiceError as error:
        error.detail, error.reason = what + error.detail, what + error.reason
        raise


class BadRequest(ServiceError):
    """The request is malformed."""

    status, type, title = 400, "bad-request", "The request is malformed"


class Unauthorized(ServiceError):
    """The request has no key, or an unknown one.

    Args:
        wrong: True if it has an unknown key.
    """

    status, type, title = 401, "unauthorized", "A valid API key is required"

    def __init__(self, detail: str, *, wrong: bool = False) -> None:
        error = ', error="invalid_token"' if wrong else ""
        super().__init__(detail, headers={"WWW-Authenticate": f'Bearer realm="esrgan-serve"{error}'})


class Forbidden(ServiceError):
    """The key does not allow the request."""

    status, type, title = 403, "forbidden", "The key does not allow this"


class CrossSite(ServiceError):
    """The request comes from a page that the operator does not allow to call the service."""

    status, type, title = 403, "cross-site", "Pages of this origin may not do this"


class NoSuchModel(ServiceError):
    """There is no model of the requested name."""

    status, type, title = 404, "no-such-model", "There is no model of that name"


class NoSuchJob(ServiceError):
    """The caller has no job with this id: it never existed, or has expired."""

    status, type, title = 404, "no-such-job", "There is no job of that id"


class TooSlow(ServiceError):
    """The request arrived too slowly, or not completely."""

    status, type, title = 408, "too-slow", "The request arrived too slowly"


class NotAcceptable(ServiceError):
    """The caller accepts none of the formats of answers."""

    status, type, title = 406, "not-acceptable", "None of the accepted formats is available"


class NotReady(ServiceError):
    """The result is not there: the job has not ended yet, or has no result. Or a webhook is just being delivered."""

    status, type, title = 409, "not-ready", "There is no result"


class PreconditionFailed(ServiceError):
    """`If-Match` does not match the current version."""

    status, type, title = 412, "precondition-failed", "If-Match does not match"


class NoSuchRange(ServiceError):
    """The result has no such bytes."""

    status, type, title = 416, "range-not-satisfiable", "There are no such bytes"


class TooLarge(ServiceError):
    """More bytes or pixels than the settings allow."""

    status, type, title = 413, "too-large", "The picture or the request is too large"


class UnsupportedFormat(ServiceError):
    """The upload is not a supported image format."""

    status, type, title = 415, "unsupported-format", "The upload is not a supported image format"


class UnsupportedEncoding(ServiceError):
    """The body is compressed or encoded, e.g. with gzip."""

    status, type, title = 415, "unsupported-encoding", "The body's encoding is not supported"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Accept-Encoding": "identity"})  # RFC 9110, section 12.5.3


class Unprocessable(ServiceError):
    """A corrupt image, or a parameter out of range."""

    status, type, title = 422, "unprocessable", "The image or a parameter cannot be processed"


class SourceRefused(ServiceError):
    """A URL may not be read or written, or could not be."""

    status, type, title = 422, "source-refused", "The URL cannot be used"


class IdempotencyMismatch(ServiceError):
    """The Idempotency-Key was used for another request."""

    status, type, title = 422, "idempotency-mismatch", "The Idempotency-Key belongs to another request"


class Misdirected(ServiceError):
    """The request names another host."""

    status, type, title = 421, "misdirected", "The request is for another host"


class QueueFull(ServiceError):
    """More work is queued than the settings allow."""

    status, type, title = 429, "queue-full", "The queue is full"


class KeyLimit(ServiceError):
    """A limit of the key is reached."""

    status, type, title = 429, "key-limit", "The key has reached its limit"


class HeadTooLarge(ServiceError):
    """The path, the query and the headers are too long."""

    status, type, title = 431, "request-header-fields-too-large", "Request Header Fields Too Large"


class Internal(ServiceError):
    """The service failed; the log has the details."""

    status, type, title = 500, "internal", "Internal error"


class Unavailable(ServiceError):
    """The service is loading, stopping or broken, or lacks what this request needs.

    Args:
        state: state of the service, if it is the reason; see `app.lifecycle.Phase`.
    """

    status, type, title = 503, "unavailable", "The service is not available"

    def __init__(
        self, detail: str, *, reason: str = "", retry_after_s: int = RETRY_S, state: str | None = None
    ) -> None:
        members = {} if state is None else {"state": state}
        super().__init__(detail, reason=reason, retry_after_s=retry_after_s, members=members)


class UnsupportedTransfer(ServiceError):
    """The request's Transfer-Encoding is another one than `chunked`."""

    status, type, title = 501, "not-implemented", "Not Implemented"


class JobsOff(ServiceError):
    """The service takes no jobs."""

    status, type, title = 501, "jobs-off", "The service takes no jobs"


class StorageFull(ServiceError):
    """The disk is full, or the limit on the storage of jobs is reached."""

    status, type, title = 507, "storage-full", "There is no room for jobs"


class DeadlinePassed(ServiceError):
    """The caller's deadline passed before the picture was finished."""

    status, type, title = 504, "deadline-passed", "The deadline has passed"


class ReadTooSlowly(DeadlinePassed):
    """The caller read the answer too slowly while others waited for its memory."""

    type, title = "read-too-slowly", "The answer was read too slowly"
