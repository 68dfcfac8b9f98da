"""Every error that a caller can get, drawn once.

    ServiceError
    ├── BadRequest            400  malformed request
    ├── Unauthorized          401  no key, or a wrong one
    ├── Forbidden             403  the key does not allow this
    ├── NoSuchModel           404
    ├── TooSlow               408  the request came too slowly
    ├── NotAcceptable         406  Accept names no format that answers may have
    ├── TooLarge              413  too many bytes or pixels
    ├── UnsupportedFormat     415  not an image format that we take
    ├── UnsupportedEncoding   415  a compressed or encoded body
    ├── Unprocessable         422  a corrupt image, or a parameter out of its range
    ├── QueueFull             429  with Retry-After
    ├── KeyLimit              429  with Retry-After
    ├── Unavailable           503  loading, stopping or broken, with Retry-After
    └── DeadlinePassed        504

Their text goes to the caller: it names the value, the limit and the way out, never a path or an internal name.
Anything else that is raised is answered 500 with a fixed text and goes to the log.
"""

from collections.abc import Mapping
from typing import ClassVar

RETRY_S = 5
"""By then a service has loaded, or another instance has taken over."""


class ServiceError(Exception):
    """An answer to the caller other than a picture."""

    status: ClassVar[int]
    type: ClassVar[str]
    """Stable last part of the problem type, for programs."""
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: int | None = None,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.headers = headers or {}
        self.members = members or {}
        """What the problem document says beside its four usual members."""


class BadRequest(ServiceError):
    """The request cannot be read as one."""

    status, type, title = 400, "bad-request", "The request is malformed"


class Unauthorized(ServiceError):
    """The request carries no key, or not one that is known.

    Args:
        wrong: it carries one.
    """

    status, type, title = 401, "unauthorized", "A key is needed"

    def __init__(self, detail: str, *, wrong: bool = False) -> None:
        error = ', error="invalid_token"' if wrong else ""
        super().__init__(detail, headers={"WWW-Authenticate": f'Bearer realm="esrgan-serve"{error}'})


class Forbidden(ServiceError):
    """The key is known and does not allow what is asked."""

    status, type, title = 403, "forbidden", "The key does not allow this"


class NoSuchModel(ServiceError):
    """The request names a model that is not loaded."""

    status, type, title = 404, "no-such-model", "There is no model of that name"


class TooSlow(ServiceError):
    """The request came too slowly, or stopped coming."""

    status, type, title = 408, "too-slow", "The request came too slowly"


class NotAcceptable(ServiceError):
    """The caller accepts no format that answers may have."""

    status, type, title = 406, "not-acceptable", "No accepted format can be answered"


class TooLarge(ServiceError):
    """More bytes or pixels than the settings allow."""

    status, type, title = 413, "too-large", "The picture is too large"


class UnsupportedFormat(ServiceError):
    """Not an image format that is accepted."""

    status, type, title = 415, "unsupported-format", "The upload is not an image format that is accepted"


class UnsupportedEncoding(ServiceError):
    """The body is compressed or encoded, e.g. with gzip."""

    status, type, title = 415, "unsupported-encoding", "The body's encoding is not accepted"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Accept-Encoding": "identity"})  # RFC 9110, section 12.5.3


class Unprocessable(ServiceError):
    """A corrupt image, or a parameter out of its range."""

    status, type, title = 422, "unprocessable", "The image or a parameter cannot be processed"


class QueueFull(ServiceError):
    """More work waits than the settings allow."""

    status, type, title = 429, "queue-full", "Too much work is waiting"


class KeyLimit(ServiceError):
    """One of the key's own limits is reached."""

    status, type, title = 429, "key-limit", "The key has reached its limit"


class Unavailable(ServiceError):
    """The service is loading, stopping or broken, or lacks what this request needs.

    Args:
        state: of the service, where that is the reason: `loading`, `draining` or `broken`.
    """

    status, type, title = 503, "unavailable", "The service cannot take work now"

    def __init__(self, detail: str, *, retry_after_s: int = RETRY_S, state: str | None = None) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, members={} if state is None else {"state": state})


class DeadlinePassed(ServiceError):
    """The caller's deadline passed before the picture was finished."""

    status, type, title = 504, "deadline-passed", "The deadline has passed"
