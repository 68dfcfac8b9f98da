"""The caller's handle on a submitted job: the parts of its output as they get ready."""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Output = TypeVar("Output")


class Outcome(enum.Enum):
    """The end of a job."""

    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Withdrawn(Exception):
    """A part was requested from a ticket that its caller had closed."""


class Ticket(Generic[Output]):
    """The parts of one job's output, in order: one for a batch, any number for a stream. Belongs to the event loop.

    Leaving it cancels the job: at the end of `async with`, by `close`, or by cancelling a task that waits for a part.

    Args:
        on_read: called after a part was taken, while the job is not settled.
        on_leave: called when the caller leaves before the job is settled; must settle it.
    """

    def __init__(self, cost_px: int, *, on_read: Callable[[], None], on_leave: Callable[[], None]) -> None:
        self.cost_px = cost_px
        self.done_px = 0
        """LR px that have been processed."""
        self.queue_s = 0.0
        """Seconds from submission to the start of the first piece."""
        self.infer_s = 0.0
        """Seconds from then to the end of the latest piece, including other jobs' pieces."""
        self.outcome: Outcome | None = None
        """None while the job waits or runs. There may still be unread parts after that."""
        self._on_read = on_read
        self._on_leave = on_leave
        self._parts: deque[Output] = deque()
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def unread(self) -> int:
        """Number of parts that are ready and not taken yet."""
        return len(self._parts)

    def __aiter__(self) -> "Ticket[Output]":
        return self

    async def __anext__(self) -> Output:
        """Wait for the next part.

        Raises:
            DeadlinePassed: the job's deadline passed.
            ReadTooSlowly: others waited for its memory.
            Unavailable: the service stopped first.
            Exception: raised by the engine.
        """
        try:
            while not self._parts and self.outcome is None:
                self._changed.clear()
                await self._changed.wait()
        except asyncio.CancelledError:
            self.close()
            raise
        if self._error is not None:
            raise self._error
        if not self._parts:
            raise StopAsyncIteration
        part = self._parts.popleft()
        if self.outcome is None:
            self._on_read()
        return part

    async def __aenter__(self) -> "Ticket[Output]":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the job, unless it is settled already."""
        if self.outcome is None:
            self._on_leave()

    def deliver(self, part: Output) -> None:
        """Deliver the next part; called by the scheduler."""
        self._parts.append(part)
        self._changed.set()

    def settle(self, outcome: Outcome, error: Exception | None = None) -> None:
        """Settle the job, once; called by the scheduler. With an error, unread parts are dropped."""
        assert self.outcome is None, f"settled twice: {self.outcome}, then {outcome}"
        self.outcome, self._error = outcome, error
        if error is not None:
            self._parts.clear()
        # Both refer to the job and its picture; the cycle would keep them until the next garbage collection.
        self._on_read = self._on_leave = _nothing
        self._changed.set()


def _nothing() -> None:
    pass
