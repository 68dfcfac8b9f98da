"""Memory of the process: decides which uploads may be read, and when a picture may be decoded."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from app.errors import QueueFull
from app.threads import WatchedPool

MAX_PASSES = 8
"""Maximum pictures that overtake one that waits for memory."""

LARGEST_SHARE = 7 / 8
"""Maximum share of the memory of all pictures that a single one counts as."""

GRACE_S = 2.0
"""Minimum time of reading before an upload may lose its memory to a faster one."""


class UploadMemory:
    """Counts the bytes of all uploads that are being read or wait for their answers, as the bytes arrive.

    When it is full, the slowest upload that is still being read loses its memory to a faster one; a complete upload
    keeps it. So a slow caller blocks nobody, whatever length it announces.

    Args:
        max_bytes: for all uploads together; a single one may be larger.
        backlog_s: returns the predicted seconds until all queued work is done; None while nothing is known.
    """

    def __init__(
        self, max_bytes: int, backlog_s: Callable[[], float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self._backlog_s = backlog_s
        self._clock = clock
        self._reading: set[UploadReservation] = set()
        self.used_bytes = 0

    @contextmanager
    def reserve(self) -> Iterator["UploadReservation"]:
        """Open an empty reservation for one upload; its memory is released at the end of the block."""
        reservation = UploadReservation(self, self._clock())
        self._reading.add(reservation)
        try:
            yield reservation
        finally:
            self.complete(reservation)
            self.used_bytes -= reservation.size_bytes

    def complete(self, reservation: "UploadReservation") -> None:
        """Note that an upload has been read to its end."""
        self._reading.discard(reservation)

    def check(self, size_bytes: int) -> None:
        """Refuse an upload of this size before it is read, if the complete ones leave no room for it.

        Raises:
            QueueFull: there is no room; `retry_after_s` is the predicted time until there is.
        """
        complete_bytes = self.used_bytes - sum(reading.size_bytes for reading in self._reading)
        excess_bytes = complete_bytes + size_bytes - self.max_bytes
        if complete_bytes and excess_bytes > 0:
            raise self._full(size_bytes, self._backlog_share_s(excess_bytes, complete_bytes))

    def grow(self, reservation: "UploadReservation", more_bytes: int) -> None:
        """Enlarge a reservation, evicting slower uploads if necessary.

        Raises:
            QueueFull: there is no room; `retry_after_s` is the predicted time until there is.
        """
        excess_bytes = self.used_bytes + more_bytes - self.max_bytes
        if excess_bytes > 0 and self.used_bytes > reservation.size_bytes:
            slower = self._slower(reservation, excess_bytes)
            for victim in slower:
                refusal = self._full(0, GRACE_S)
                self.used_bytes -= victim.size_bytes
                victim.evict(refusal)
            if not slower:
                raise self._full(more_bytes, self._room_s(reservation, excess_bytes))
        self.used_bytes += more_bytes

    def _slower(self, reservation: "UploadReservation", excess_bytes: int) -> list["UploadReservation"]:
        """Find the slowest uploads that together free this much; empty if all slower ones are not enough."""
        now_s = self._clock()
        old = [other for other in self._reading if now_s - other.began_s >= GRACE_S and other.size_bytes]
        victims: list[UploadReservation] = []
        for slowest in sorted(old, key=lambda other: other.size_bytes / (now_s - other.began_s)):
            if slowest is reservation:
                break
            victims.append(slowest)
            excess_bytes -= slowest.size_bytes
            if excess_bytes <= 0:
                return victims
        return []

    def _room_s(self, reservation: "UploadReservation", excess_bytes: int) -> float:
        others_bytes = sum(other.size_bytes for other in self._reading if other is not reservation)
        complete_bytes = self.used_bytes - others_bytes - reservation.size_bytes
        if others_bytes + reservation.size_bytes >= excess_bytes or not complete_bytes:
            return GRACE_S  # after that, a new upload can evict one of these
        return self._backlog_share_s(excess_bytes - others_bytes - reservation.size_bytes, complete_bytes)

    def _backlog_share_s(self, excess_bytes: int, complete_bytes: int) -> float:
        return (self._backlog_s() or 0.0) * min(1.0, excess_bytes / complete_bytes)

    def _full(self, size_bytes: int, room_s: float) -> QueueFull:
        wait_s = max(1, math.ceil(room_s))
        reason = f"this one adds {size_bytes} bytes" if size_bytes else "this one arrives more slowly than others"
        return QueueFull(
            f"uploads of {self.used_bytes} bytes are in memory and {reason}; the limit is {self.max_bytes} bytes; "
            f"try again in {wait_s} s",
            retry_after_s=wait_s,
        )


class UploadReservation:
    """The memory of one upload.

    Args:
        began_s: time at which reading began.
    """

    def __init__(self, memory: UploadMemory, began_s: float) -> None:
        self._memory = memory
        self._eviction: QueueFull | None = None
        self._on_evict: Callable[[], None] | None = None
        self.began_s = began_s
        self.size_bytes = 0

    def announce(self, size_bytes: int) -> None:
        """Check that there may be room for an upload of this size, without reserving it.

        Raises:
            QueueFull: there is no room.
        """
        self._memory.check(size_bytes)

    def grow_to(self, size_bytes: int) -> None:
        """Reserve room for all bytes that have arrived.

        Raises:
            QueueFull: there is no room, or a faster upload has taken this one's.
        """
        self.check_kept()
        if size_bytes > self.size_bytes:
            self._memory.grow(self, size_bytes - self.size_bytes)
            self.size_bytes = size_bytes

    def check_kept(self) -> None:
        """Check that the reservation still holds.

        Raises:
            QueueFull: a faster upload has taken its memory.
        """
        if self._eviction is not None:
            raise self._eviction

    def complete(self) -> None:
        """Protect the reservation from eviction: all bytes have arrived."""
        self.check_kept()
        self._memory.complete(self)

    @contextmanager
    def calling_on_eviction(self, call: Callable[[], None]) -> Iterator[None]:
        """Within the block, call something when the reservation is evicted."""
        self._on_evict = call
        try:
            yield
        finally:
            self._on_evict = None

    def evict(self, refusal: QueueFull) -> None:
        """Give the memory to a faster upload; later calls raise `refusal`."""
        self.size_bytes, self._eviction = 0, refusal
        self._memory.complete(self)
        if self._on_evict is not None:
            self._on_evict()


class PictureMemory:
    """Counts the bytes of all pictures from decoding to the end of their answers; those that do not fit wait in order.

    A small picture that fits may overtake waiting ones; each of these is overtaken at most `MAX_PASSES` times. A large
    one counts as at most `LARGEST_SHARE` of the memory, so there is always room for small ones.

    Args:
        max_bytes: for all pictures together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._largest_bytes = math.ceil(LARGEST_SHARE * max_bytes)
        self._waiting: list[_Turn] = []
        self._releases: set[asyncio.Task[None]] = set()
        self.used_bytes = 0

    @property
    def waiting(self) -> int:
        """Number of pictures that wait for memory."""
        return len(self._waiting)

    def check_line(self) -> None:
        """Check that the waiting pictures would fit into the memory together.

        Raises:
            QueueFull: they would not.
        """
        waiting_bytes = sum(turn.size_bytes for turn in self._waiting)
        if waiting_bytes > self._max_bytes:
            raise QueueFull(
                f"the pictures that wait need {waiting_bytes} bytes of memory; the limit is {self._max_bytes} bytes; "
                "try again in a second",
                retry_after_s=1,
            )

    @asynccontextmanager
    async def reserve(self, size_bytes: int) -> AsyncIterator["PictureReservation"]:
        """Wait for this much memory; it is released once the block and the reservation's calls have ended."""
        turn = _Turn(min(size_bytes, self._largest_bytes))
        self._waiting.append(turn)
        self._admit()
        reservation = PictureReservation(self, turn.size_bytes)
        try:
            await turn.has_come
            yield reservation
        finally:
            if turn in self._waiting:  # its caller has left
                self._waiting.remove(turn)
                self._admit()
            elif reservation.running:
                release = asyncio.create_task(self._release_after(reservation))
                self._releases.add(release)
                release.add_done_callback(self._releases.discard)
            else:
                reservation.keep(0)

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Count bytes that are in memory already, within the block."""
        self.used_bytes += size_bytes
        try:
            yield
        finally:
            self.release(size_bytes)

    def release(self, size_bytes: int) -> None:
        """Release this much memory, and admit pictures that wait for it."""
        self.used_bytes -= size_bytes
        self._admit()

    async def _release_after(self, reservation: "PictureReservation") -> None:
        await asyncio.gather(*map(asyncio.wrap_future, list(reservation.running)), return_exceptions=True)
        reservation.keep(0)

    def _admit(self) -> None:
        ahead: list[_Turn] = []
        for turn in [turn for turn in self._waiting if not turn.has_come.cancelled()]:
            if any(other.passes == MAX_PASSES for other in ahead):
                return
            if self.used_bytes + turn.size_bytes > self._max_bytes:
                ahead.append(turn)
                continue
            self._waiting.remove(turn)
            self.used_bytes += turn.size_bytes
            turn.has_come.set_result(None)
            for other in ahead:
                other.passes += 1


class _Turn:
    """A picture's place in the queue for memory."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.has_come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.passes = 0
        """Pictures behind it that were admitted first."""


class PictureReservation:
    """The memory of one picture."""

    def __init__(self, memory: PictureMemory, size_bytes: int) -> None:
        self._memory = memory
        self._size_bytes = size_bytes
        self.running: set[Future[Any]] = set()
        """Calls that have not ended."""

    def keep(self, size_bytes: int) -> None:
        """Release all but this many bytes."""
        spare_bytes = max(0, self._size_bytes - size_bytes)
        self._size_bytes -= spare_bytes
        self._memory.release(spare_bytes)

    def watched(self, pool: Executor) -> Executor:
        """Return a pool whose calls keep the memory until they end: a thread cannot be stopped when a caller leaves."""
        return WatchedPool(pool, self.running)
