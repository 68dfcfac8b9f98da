"""The memory of the process: who may read an upload, and who may decode one."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from app.errors import QueueFull

GRACE_S = 2.0
"""An upload that has been read for this long may lose its memory to a faster one."""


class UploadMemory:
    """The bytes of all uploads that are being read or wait for their answers, counted as they come.

    When it is full, the slowest of those that are still being read loses its place; what has been read to its end keeps
    it. So callers that send drop by drop hold up nobody, however much they announce.

    Args:
        most_bytes: for all of them; a single one may be larger.
        backlog_s: predicted seconds until the work of all of them is done; None while nothing is known.
    """

    def __init__(
        self, most_bytes: int, backlog_s: Callable[[], float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes = most_bytes
        self._backlog_s = backlog_s
        self._clock = clock
        self._reading: set[Held] = set()
        self.held_bytes = 0

    @contextmanager
    def hold(self) -> Iterator["Held"]:
        """Open the memory of one upload, which is empty at first and given back at the end."""
        held = Held(self, self._clock())
        self._reading.add(held)
        try:
            yield held
        finally:
            self.complete(held)
            self.held_bytes -= held.size_bytes

    def complete(self, held: "Held") -> None:
        """Note that an upload has been read to its end."""
        self._reading.discard(held)

    def check(self, size_bytes: int) -> None:
        """Refuse an upload of this size, before it is read, where the complete ones leave no room for it.

        Raises:
            QueueFull: they do not; `retry_after_s` is the predicted time until they do.
        """
        complete_bytes = self.held_bytes - sum(held.size_bytes for held in self._reading)
        excess_bytes = complete_bytes + size_bytes - self._most_bytes
        if complete_bytes and excess_bytes > 0:
            raise self._full(size_bytes, self._backlog_share_s(excess_bytes, complete_bytes))

    def take(self, held: "Held", more_bytes: int) -> None:
        """Let an upload grow, at the cost of slower ones if need be.

        Raises:
            QueueFull: there is no room; `retry_after_s` is the predicted time until there is.
        """
        excess_bytes = self.held_bytes + more_bytes - self._most_bytes
        if excess_bytes > 0 and self.held_bytes > held.size_bytes:
            losers = self._slower(held, excess_bytes)
            for loser in losers:
                self.held_bytes -= loser.size_bytes
                loser.lose(self._full(0, GRACE_S))
            if not losers:
                raise self._full(more_bytes, self._room_s(held, excess_bytes))
        self.held_bytes += more_bytes

    def _slower(self, held: "Held", excess_bytes: int) -> list["Held"]:
        """Find the slowest uploads that free this much; none of them where all together do not."""
        now_s = self._clock()
        old = [other for other in self._reading if now_s - other.began_s >= GRACE_S and other.size_bytes]
        losers: list[Held] = []
        for slowest in sorted(old, key=lambda other: other.size_bytes / (now_s - other.began_s)):
            if slowest is held:
                break
            losers.append(slowest)
            excess_bytes -= slowest.size_bytes
            if excess_bytes <= 0:
                return losers
        return []

    def _room_s(self, held: "Held", excess_bytes: int) -> float:
        others_bytes = sum(other.size_bytes for other in self._reading if other is not held)
        complete_bytes = self.held_bytes - others_bytes - held.size_bytes
        if others_bytes + held.size_bytes >= excess_bytes or not complete_bytes:
            return GRACE_S  # by then a newcomer is faster than one of these
        return self._backlog_share_s(excess_bytes - others_bytes - held.size_bytes, complete_bytes)

    def _backlog_share_s(self, excess_bytes: int, complete_bytes: int) -> float:
        return (self._backlog_s() or 0.0) * min(1.0, excess_bytes / complete_bytes)

    def _full(self, size_bytes: int, room_s: float) -> QueueFull:
        wait_s = max(1, math.ceil(room_s))
        adds = f" and this one adds {size_bytes}" if size_bytes else ", and this one comes more slowly than others"
        return QueueFull(
            f"uploads of {self.held_bytes} bytes are waiting{adds}, while the limit is {self._most_bytes}; "
            f"try again in {wait_s} s",
            retry_after_s=wait_s,
        )


class Held:
    """The memory of one upload.

    Args:
        began_s: when its reading began.
    """

    def __init__(self, memory: UploadMemory, began_s: float) -> None:
        self._memory = memory
        self._lost: QueueFull | None = None
        self._interrupt: Callable[[], None] | None = None
        self.began_s = began_s
        self.size_bytes = 0

    def announce(self, size_bytes: int) -> None:
        """Look whether there may be room for an upload of this size; nothing is set aside for it.

        Raises:
            QueueFull: there is none.
        """
        self._memory.check(size_bytes)

    def grow_to(self, size_bytes: int) -> None:
        """Make sure of room for all bytes that have come.

        Raises:
            QueueFull: there is none, or a faster upload has got it.
        """
        self.check_kept()
        if size_bytes > self.size_bytes:
            self._memory.take(self, size_bytes - self.size_bytes)
            self.size_bytes = size_bytes

    def check_kept(self) -> None:
        """Make sure that nothing was lost.

        Raises:
            QueueFull: a faster upload has got the memory.
        """
        if self._lost is not None:
            raise self._lost

    def complete(self) -> None:
        """Keep the memory from now on: all bytes have come."""
        self.check_kept()
        self._memory.complete(self)

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have something called, within the block, when the memory is lost."""
        self._interrupt = interrupt
        try:
            yield
        finally:
            self._interrupt = None

    def lose(self, refusal: QueueFull) -> None:
        """Give the memory up to a faster upload."""
        self.size_bytes, self._lost = 0, refusal
        self._memory.complete(self)
        if self._interrupt is not None:
            self._interrupt()


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
