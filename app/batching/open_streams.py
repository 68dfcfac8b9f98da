"""Open streams and the device memory that they hold."""

from typing import Generic, TypeVar

Member = TypeVar("Member")


class OpenStreams(Generic[Member]):
    """Counts the memory of open streams, and the time that each has been stalled by its reader.

    A stream whose reader is slow is stalled: it waits, with its memory and a few unread parts. That harms nobody until
    another stream has no room to open. Then the stream is ended that has been stalled longest, if it was stalled for
    longer than `patience_s` in total. So no reader can occupy the device for good by reading slowly or not at all.

    Args:
        max_bytes: memory for all open streams together; a single one may hold more.
        patience_s: total time that a reader may stall its stream while others wait for room.
    """

    def __init__(self, max_bytes: int, *, patience_s: float) -> None:
        self._max_bytes = max_bytes
        self._patience_s = patience_s
        self._bytes: dict[Member, int] = {}
        self._held_s: dict[Member, float] = {}
        self._held_since_s: dict[Member, float] = {}

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def stream_bytes(self) -> int:
        """Memory that the open streams hold."""
        return sum(self._bytes.values())

    def fits(self, stream_bytes: int) -> bool:
        """Return True if a stream that holds this much may open."""
        return not self._bytes or self.stream_bytes + stream_bytes <= self._max_bytes

    def take(self, stream: Member, stream_bytes: int) -> None:
        """Open a stream."""
        self._bytes[stream] = stream_bytes
        self._held_s[stream] = 0.0

    def give_back(self, stream: Member) -> None:
        """Close a stream; nothing happens if it was not open."""
        self._bytes.pop(stream, None)
        self._held_s.pop(stream, None)
        self._held_since_s.pop(stream, None)

    def stall(self, stream: Member, now_s: float) -> None:
        """Note that its reader is behind."""
        self._held_since_s.setdefault(stream, now_s)

    def resume(self, stream: Member, now_s: float) -> bool:
        """Note that its reader has caught up; returns True if the stream was stalled."""
        since_s = self._held_since_s.pop(stream, None)
        if since_s is None:
            return False
        self._held_s[stream] += now_s - since_s
        return True

    def longest_stalled(self, now_s: float) -> tuple[Member, float] | None:
        """Return the stream that has been stalled longest in total, and the seconds of patience left for it."""
        left_s = {s: self._patience_s - self._held_s[s] - (now_s - since) for s, since in self._held_since_s.items()}
        return min(left_s.items(), key=lambda item: item[1], default=None)
