"""The thread that owns the device, and a watch over the call that it runs."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from app.batching.job import DeviceLost

MAX_LATENESS = 20.0
"""A call hangs once it has run for more than this many times its prediction, and for `hang_s`."""

UNKNOWN_FACTOR = 10.0
"""A call without a prediction, such as a step of loading a network, hangs after this many times `hang_s`."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class _Running:
    began_s: float
    limit_s: float
    text: str


class DeviceThread:
    """Runs calls one at a time, in the order of their submission.

    A driver can hang for ever, and a thread in it cannot be interrupted. So a call that runs far longer than predicted
    is reported, and the process has to end.

    Args:
        hang_s: minimum seconds before a call counts as hung.
        clock: returns seconds.
    """

    def __init__(self, *, hang_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._hang_s = hang_s
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._running: _Running | None = None  # replaced as a whole, since several threads read it
        self._unfinished: set[Future[Any]] = set()

    def submit(
        self, call: Callable[[], Result], text: str = "a call", *, predicted_s: float | None = None
    ) -> Future[Result]:
        """Queue a call; its future raises `DeviceLost` if the call ends the thread.

        Args:
            text: name of the call, for the error if it hangs.
            predicted_s: predicted duration, if known.
        """
        limit_s = self._hang_s * UNKNOWN_FACTOR if predicted_s is None else MAX_LATENESS * predicted_s

        def run() -> Result:
            self._running = _Running(began_s=self._clock(), limit_s=max(self._hang_s, limit_s), text=text)
            try:
                return call()
            except Exception:
                raise
            except BaseException as error:
                # A SystemExit would end the event loop before any answer is sent.
                raise DeviceLost("the device's thread has died") from error
            finally:
                self._running = None

        future = self._pool.submit(run)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def call(self, call: Callable[[], Result], text: str) -> Result:
        """Run a call after those submitted before, and wait for it.

        Raises:
            DeviceLost: it hangs, or has ended the thread.
        """
        future = self.submit(call, text)
        while not wait([future], timeout=self.check_in_s).done:
            self.check()
        return future.result()

    def check(self) -> None:
        """Check that the running call does not hang.

        Raises:
            DeviceLost: it does.
        """
        running = self._running
        if running is not None and (seconds := self._clock() - running.began_s) > running.limit_s:
            raise DeviceLost(f"{running.text} has run for {seconds:.0f} s; the limit was {running.limit_s:.0f} s")

    @property
    def check_in_s(self) -> float | None:
        """Seconds until `check` has to be called again; None while no call runs or waits."""
        running = self._running
        if running is None:
            return self._hang_s if self._unfinished else None
        return max(0.0, running.began_s + running.limit_s - self._clock())

    def shutdown(self) -> None:
        """Accept no more calls, without waiting for those that were submitted."""
        self._pool.shutdown(wait=False)
