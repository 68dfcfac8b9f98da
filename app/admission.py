"""The memory of the process: who may read an upload, and who may decode one."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from app.errors import QueueFull


class UploadMemory:
    """The bytes of all uploads that are being read or wait for their answers. What does not fit is refused, unread.

    Args:
        most_bytes: for all of them; a single one may be larger.
        backlog_s: predicted seconds until the work of all of them is done; None while nothing is known.
    """

    def __init__(self, most_bytes: int, backlog_s: Callable[[], float | None]) -> None:
        self._most_bytes = most_bytes
        self._backlog_s = backlog_s
        self.held_bytes = 0

    @contextmanager
    def hold(self) -> Iterator["Held"]:
        """The memory of one upload, which is empty at first and given back at the end."""
        held = Held(self)
        try:
            yield held
        finally:
            self.held_bytes -= held.size_bytes

    def take(self, size_bytes: int) -> None:
        """Let an upload grow by so much.

        Raises:
            QueueFull: there is no room; `retry_after_s` is the predicted time until there is.
        """
        excess_bytes = self.held_bytes + size_bytes - self._most_bytes
        if self.held_bytes and excess_bytes > 0:
            share = min(1.0, excess_bytes / self.held_bytes)
            wait_s = max(1, math.ceil((self._backlog_s() or 0.0) * share))
            raise QueueFull(
                f"uploads of {self.held_bytes} bytes are waiting and this one adds {size_bytes}, which passes the "
                f"limit of {self._most_bytes}; try again in {wait_s} s",
                retry_after_s=wait_s,
            )
        self.held_bytes += size_bytes


class Held:
    """The memory of one upload."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory = memory
        self.size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Make sure of so many bytes.

        Raises:
            QueueFull: there is no room for them.
        """
        more_bytes = size_bytes - self.size_bytes
        if more_bytes > 0:
            self._memory.take(more_bytes)
            self.size_bytes = size_bytes


class PictureMemory:
    """The bytes of all pictures from decoding to the end of their answers. Who does not fit waits, in order.

    Args:
        most_bytes: for all of them; a single one may be larger.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._waiting: dict[asyncio.Future[None], int] = {}
        self.used_bytes = 0

    @property
    def waiting(self) -> int:
        """Pictures that wait for memory."""
        return len(self._waiting)

    @asynccontextmanager
    async def room(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for so much memory, and give it back at the end."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = size_bytes
        self._let_in()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():  # while it waited
                self._waiting.pop(turn, None)
            else:
                self.used_bytes -= size_bytes
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            turn, size_bytes = next(iter(self._waiting.items()))
            if not turn.cancelled():
                if self.used_bytes and self.used_bytes + size_bytes > self._most_bytes:
                    return
                self.used_bytes += size_bytes
                turn.set_result(None)
            del self._waiting[turn]
