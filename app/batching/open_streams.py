"""The streams that are open. Each holds memory on the device, of which there is only so much, whoever reads them."""

from typing import Generic, TypeVar

Member = TypeVar("Member")


class OpenStreams(Generic[Member]):
    """The memory of each open stream, and how long each one's reader has held it up.

    A stream whose reader is slow is held: it waits, with its memory and its few unread parts. Nobody loses by that
    until another stream wants to open and finds no room. Then the one whose reader has held it up for longer than its
    patience, in all, has to go: so no reader keeps others from the device for good by reading slowly or never.

    Args:
        most_bytes: memory for all open streams together; a single one may hold more.
        patience_s: how long a reader may hold up its stream, in all, where others wait for room.
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
        """Whether a stream that holds so much may open."""
        return not self._bytes or self.stream_bytes + stream_bytes <= self._max_bytes

    def take(self, stream: Member, stream_bytes: int) -> None:
        """A stream opens."""
        self._bytes[stream] = stream_bytes
        self._held_s[stream] = 0.0

    def give_back(self, stream: Member) -> None:
        """A stream has ended; nothing happens if it was not open."""
        self._bytes.pop(stream, None)
        self._held_s.pop(stream, None)
        self._held_since_s.pop(stream, None)

    def stall(self, stream: Member, now_s: float) -> None:
        """Its reader has more parts than it takes."""
        self._held_since_s.setdefault(stream, now_s)

    def resume(self, stream: Member, now_s: float) -> bool:
        """Its reader has taken some; whether it was held."""
        since_s = self._held_since_s.pop(stream, None)
        if since_s is None:
            return False
        self._held_s[stream] += now_s - since_s
        return True

    def longest_stalled(self, now_s: float) -> tuple[Member, float] | None:
        """Of the streams that are held, the one that was held longest, and the seconds of patience left with it."""
        left_s = {s: self._patience_s - self._held_s[s] - (now_s - since) for s, since in self._held_since_s.items()}
        return min(left_s.items(), key=lambda item: item[1], default=None)
