"""What a caller holds while its work waits and runs: the parts of the output as they get ready."""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Output = TypeVar("Output")


class Outcome(enum.Enum):
    """How a work ended."""

    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Withdrawn(Exception):
    """Parts were asked of a ticket that its caller had closed before."""


class Ticket(Generic[Output]):
    """The parts of one work's output, in order: one of a batch, any number of a stream. Belongs to the event loop.

    Leaving it withdraws the work: by the end of `async with`, by `close`, or by cancelling whoever waits for a part.

    Args:
        on_read: called after a part was taken, while the work is not settled.
        on_leave: called when the caller leaves before the work is settled; it settles it.
    """

    def __init__(self, cost_px: int, *, on_read: Callable[[], None], on_leave: Callable[[], None]) -> None:
        self.cost_px = cost_px
        self.done_px = 0
        """LR px that have been through the device."""
        self.queue_s = 0.0
        """Seconds from submission until the device first took it."""
        self.infer_s = 0.0
        """Seconds from then until the last piece so far was ready, the pieces of others in between included."""
        self.outcome: Outcome | None = None
        """None while the work waits or runs. The reader may still have parts to take after that."""
        self._on_read = on_read
        self._on_leave = on_leave
        self._parts: deque[Output] = deque()
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def unread(self) -> int:
        """Parts that are ready and not taken yet."""
        return len(self._parts)

    def __aiter__(self) -> "Ticket[Output]":
        return self

    async def __anext__(self) -> Output:
        """Wait for the next part.

        Raises:
            DeadlinePassed: the work's deadline passed, or its reader held up others for too long.
            Unavailable: the service stopped first.
            Exception: whatever the engine raised.
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
        """Withdraw the work, unless it is settled already."""
        if self.outcome is None:
            self._on_leave()

    def deliver(self, part: Output) -> None:
        """For the scheduler: hand the reader its next part."""
        self._parts.append(part)
        self._changed.set()

    def settle(self, outcome: Outcome, error: Exception | None = None) -> None:
        """For the scheduler: end it, once; with an error, which the reader gets at once instead of further parts."""
        assert self.outcome is None, f"settled twice: {self.outcome}, then {outcome}"
        self.outcome, self._error = outcome, error
        if error is not None:
            self._parts.clear()
        # Both lead back to the request and its picture; a cycle would keep these until the collector comes by.
        self._on_read = self._on_leave = _nothing
        self._changed.set()


def _nothing() -> None:
    pass
