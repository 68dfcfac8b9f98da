"""Log failures that repeat once, not at each attempt."""

import logging
from types import TracebackType

from app.errors import ServiceError
from app.settings import SettingsError

EXPECTED = (ServiceError, SettingsError)
"""Errors that are logged without a traceback."""


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


def _reason_of(error: Exception | None) -> str:
    if isinstance(error, ServiceError):
        return error.reason
    if isinstance(error, SettingsError):
        return str(error)
    return "" if error is None else repr(error)
