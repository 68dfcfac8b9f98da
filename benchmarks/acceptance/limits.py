"""Limits on the time of a stage."""

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

DRIVER_S = 15.0
"""Time after the limit in which a call of the driver may return; then the process ends."""


class TimeIsUp(BaseException):
    """A stage took longer than its limit; no handler of the code that is measured may catch it."""


@contextmanager
def limited(seconds: float, trace: TextIO) -> Iterator[None]:
    """Interrupt the block after a time. If it hangs in the driver, end the process instead.

    Args:
        trace: file that receives the stacks of all threads before the process ends.

    Raises:
        TimeIsUp: the block was interrupted.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp(f"it took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + DRIVER_S, exit=True, file=trace)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
