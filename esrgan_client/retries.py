"""Retries of a call: for which failures, when, and for how long."""

import time
from collections.abc import Callable

import httpx

from esrgan_client.problems import Busy, Problem, Unavailable

FIRST_PAUSE_S = 0.5
"""Pause after the first failure without Retry-After; each further one is twice as long, up to `MAX_PAUSE_S`."""

MAX_PAUSE_S = 30.0

MISTAKES = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Errors of the transport before anything is sent, such as a URL without `http://`."""


class Attempts:
    """Decides whether and when to retry a call.

    Args:
        max_s: maximum seconds from the first failure to the start of the last attempt.
        clock: returns seconds.
    """

    def __init__(self, max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_s = max_s
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Count the next failure as the first one, because the call has reached the service."""
        self._end_s: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def pause_s(self, error: Exception) -> float:
        """Return the seconds until the next attempt.

        Raises:
            Exception: the error, if a retry would not help or would come too late.
        """
        if isinstance(error, MISTAKES) or not isinstance(error, Busy | Unavailable | httpx.TransportError):
            raise _with_address(error)
        now_s = self._clock()
        if self._end_s is None:
            self._end_s = now_s + self._max_s
        named_s = error.retry_after_s if isinstance(error, Problem) else None
        pause_s = self._pause_s if named_s is None else named_s
        self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
        if now_s + pause_s >= self._end_s:
            raise _with_address(error)
        return pause_s


def _with_address(error: Exception) -> Exception:
    """Return an error of the transport with the URL in its text, which httpx leaves out."""
    if not isinstance(error, httpx.TransportError):
        return error
    hint = "; does the service run there?" if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else ""
    return type(error)(f"{error.request.url}: {str(error) or type(error).__name__}{hint}", request=error.request)
