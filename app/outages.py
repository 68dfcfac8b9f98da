"""Work that is repeated; a failure that repeats is logged once, not at each attempt."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType

from app.errors import ServiceError
from app.settings import SettingsError

EXPECTED = (ServiceError, SettingsError, OSError)
"""Errors that are logged without a traceback."""

LONGEST_PAUSE = 20
"""Pauses of work that takes long, at most, in pauses of other work: it may have waited for a database that was away."""


class Outage:
    """A context manager around each attempt: it logs and swallows errors.

    A line is logged when attempts begin to fail or fail for another reason, and one when they succeed again.

    Args:
        work: completes `cannot ...`, such as `claim jobs`.

    Attributes:
        reason: why the latest attempt failed; empty if it did not.
    """

    def __init__(self, log: logging.Logger, work: str) -> None:
        self.reason = ""
        self._log = log
        self._work = work

    def __enter__(self) -> None:
        """Begin an attempt."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End an attempt. Other exceptions than errors, such as a cancellation, pass."""
        if error is not None and not isinstance(error, Exception):
            return False
        self.note(error)
        return True

    def note(self, error: Exception | None) -> None:
        """Note the outcome of an attempt."""
        before, self.reason = self.reason, _reason_of(error)
        if error is None:
            if before:
                self._log.info("can %s again", self._work)
        elif self.reason != before:
            level, traced = (logging.WARNING, None) if isinstance(error, EXPECTED) else (logging.ERROR, error)
            self._log.log(level, "cannot %s: %s", self._work, self.reason, exc_info=traced)


async def repeat(
    call: Callable[[], Awaitable[None]], every_s: float, outage: Outage, *, max_share: float = 1.0
) -> None:
    """Repeat some work until cancelled.

    Args:
        every_s: pause between two attempts.
        max_share: share of the time that the work may take; with less, pauses get longer, up to `LONGEST_PAUSE` times.
    """
    while True:
        began_s = time.monotonic()
        with outage:
            await call()
        took_s = 0 if outage.reason else time.monotonic() - began_s
        await asyncio.sleep(min(max(every_s, took_s / max_share), LONGEST_PAUSE * every_s))


def _reason_of(error: Exception | None) -> str:
    if isinstance(error, ServiceError):
        return error.reason
    if isinstance(error, SettingsError | OSError):
        return str(error) or repr(error)
    return "" if error is None else repr(error)
