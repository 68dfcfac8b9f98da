"""How much waits, how long that will take, and whether there is room for more."""

import math
from collections import Counter
from collections.abc import Hashable
from types import TracebackType

from app.batching.cost import CostModel
from app.errors import QueueFull

LATE_FACTOR = 2.0
"""A work that would need so many times the time until its deadline is not taken. Predictions are far
too long where the machine was just busy with something else, and to refuse what could be done is worse."""


class Backlog:
    """The LR px that wait or run, by what their speed is learned by.

    Args:
        max_px: most that may wait or run; a single work is always taken.
        piece_s: the duration of the pieces that it is worked off in.
    """

    def __init__(self, costs: CostModel, *, max_px: int, piece_s: float) -> None:
        self._costs = costs
        self._max_px = max_px
        self._piece_s = piece_s
        self._px: Counter[tuple[Hashable, Hashable]] = Counter()
        self._reservations = 0

    @property
    def px(self) -> int:
        """LR px that wait or run."""
        return self._px.total()

    @property
    def seconds(self) -> float | None:
        """Predicted time until all of it is done; None where nothing is known of any of it."""
        known_px, known_s = 0, 0.0
        for key, px in self._px.items():
            drain_s = self._costs.drain_s(key, px, self._piece_s)
            if drain_s is not None:
                known_px, known_s = known_px + px, known_s + drain_s
        if not known_px:
            return None if self._px else 0.0
        return known_s * self.px / known_px  # kinds that never ran are taken for average ones

    def check(self, cost_px: int) -> None:
        """Whether a work of this size may be added.

        Raises:
            QueueFull: it may not; `retry_after_s` is the predicted time until there is room.
        """
        excess_px = self.px + cost_px - self._max_px
        if self._px and excess_px > 0:
            room_s = (self.seconds or 0.0) * min(1.0, excess_px / self.px)
            wait_s = max(1, math.ceil(room_s))
            raise QueueFull(
                f"{self.px} px are waiting and this picture adds {cost_px}, which passes the limit of "
                f"{self._max_px}; try again in {wait_s} s",
                retry_after_s=wait_s,
            )

    def check_in_time(self, cost_px: int, *, jobs: int, within_s: float) -> None:
        """Whether a work would be done in time.

        Every work gets its fair share: until one is done, each of the others gets as much of the device as it does.

        Args:
            works: how many have been submitted.
            within_s: time until its deadline.

        Raises:
            QueueFull: it would be late; `retry_after_s` is the predicted time until it would not.
        """
        beside_px = min(self.px, (jobs + self._reservations) * cost_px)
        if not beside_px or self.seconds is None or within_s <= 0:
            return
        predicted_s = self.seconds * (beside_px + cost_px) / self.px
        wait_s = math.ceil(predicted_s - LATE_FACTOR * within_s)
        if wait_s > 0:
            raise QueueFull(
                f"so much waits that this picture would take {predicted_s:.0f} s, too much for its deadline in "
                f"{within_s:.0f} s; try again in {wait_s} s, or allow more time",
                retry_after_s=wait_s,
            )

    def reserve(self, key: tuple[Hashable, Hashable], px: int) -> "Reservation":
        """Keep a place for a work that will be submitted."""
        self.add(key, px)
        self._reservations += 1
        return Reservation(self, key, px)

    def release(self, key: tuple[Hashable, Hashable], px: int) -> None:
        """A place is not needed any more."""
        self.remove(key, px)
        self._reservations -= 1

    def add(self, key: tuple[Hashable, Hashable], px: int) -> None:
        """A work was accepted."""
        self._px[key] += px

    def remove(self, key: tuple[Hashable, Hashable], px: int) -> None:
        """So much of a work was done, or is not wanted any more."""
        self._px[key] -= px
        if not self._px[key]:
            del self._px[key]


class Reservation:
    """A place in the queue for a work that is still being prepared; given back by the end of `with`, if not taken."""

    def __init__(self, backlog: Backlog, key: tuple[Hashable, Hashable], px: int) -> None:
        self._backlog = backlog
        self._key = key
        self._px = px

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Its LR px do not count any more; once."""
        if self._px:
            self._backlog.release(self._key, self._px)
            self._px = 0
