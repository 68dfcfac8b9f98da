"""The backlog: how much work is queued, how long it will take, and whether there is room for more."""

import math
from collections import Counter
from collections.abc import Hashable
from types import TracebackType

from app.batching.cost import CostModel
from app.errors import QueueFull

LATE_FACTOR = 2.0
"""A job is refused if it is predicted to take more than this many times the time until its deadline.

Predictions are far too long when the machine was just busy with something else, and refusing a job that could be done
is worse than accepting one that cannot.
"""


class Backlog:
    """LR px that wait or run, by the key of their cost model.

    Args:
        max_px: maximum LR px that may wait or run; a single job is always accepted.
        piece_s: target duration of the pieces that the backlog is processed in.
    """

    def __init__(self, costs: CostModel, *, max_px: int, piece_s: float) -> None:
        self._costs = costs
        self._max_px = max_px
        self._piece_s = piece_s
        self._px: Counter[tuple[Hashable, Hashable]] = Counter()
        self._jobs = 0  # and reservations

    @property
    def px(self) -> int:
        """LR px that wait or run."""
        return self._px.total()

    @property
    def seconds(self) -> float | None:
        """Predicted seconds until all of it is done; None while no speed is known."""
        known_px, known_s = 0, 0.0
        for key, px in self._px.items():
            drain_s = self._costs.drain_s(key, px, self._piece_s)
            if drain_s is not None:
                known_px, known_s = known_px + px, known_s + drain_s
        if not known_px:
            return None if self._px else 0.0
        return known_s * self.px / known_px  # kinds without a known speed count as average

    def check(self, cost_px: int) -> None:
        """Check that a job of this size may be added.

        Raises:
            QueueFull: it may not; `retry_after_s` is the predicted time until there is room.
        """
        excess_px = self.px + cost_px - self._max_px
        if self._px and excess_px > 0:
            room_s = (self.seconds or 0.0) * min(1.0, excess_px / self.px)
            wait_s = max(1, math.ceil(room_s))
            raise QueueFull(
                f"{self.px} px are queued and this picture adds {cost_px}; the limit is {self._max_px}; "
                f"try again in {wait_s} s",
                retry_after_s=wait_s,
            )

    def check_in_time(self, cost_px: int, *, within_s: float) -> None:
        """Check that a job would be done in time.

        Jobs share the device fairly: until this job of c px is done, each of the n others gets at most c px done as
        well. So of a backlog of B px, at most min(B, n c) px run before it, at the speed of the backlog as a whole.

        Args:
            within_s: time until the deadline.

        Raises:
            QueueFull: it would be late; `retry_after_s` is the predicted time until it would not be.
        """
        others_px = min(self.px, self._jobs * cost_px)
        if not others_px or self.seconds is None or within_s <= 0:
            return
        predicted_s = self.seconds * (others_px + cost_px) / self.px
        wait_s = math.ceil(predicted_s - LATE_FACTOR * within_s)
        if wait_s > 0:
            raise QueueFull(
                f"the queue is too long: this picture would finish in about {predicted_s:.0f} s, but its deadline "
                f"is in {within_s:.0f} s; try again in {wait_s} s, or allow more time",
                retry_after_s=wait_s,
            )

    def reserve(self, key: tuple[Hashable, Hashable], px: int) -> "Reservation":
        """Reserve room for a job that will be submitted."""
        self.add(key, px)
        return Reservation(self, key, px)

    def count_split(self) -> None:
        """Count a reservation that was split off another one."""
        self._jobs += 1

    def add(self, key: tuple[Hashable, Hashable], px: int) -> None:
        """Count an accepted job."""
        self._jobs += 1
        self._px[key] += px

    def end(self, key: tuple[Hashable, Hashable], px: int) -> None:
        """Stop counting a job or reservation, whose last pixels are finished or cancelled."""
        self._jobs -= 1
        self.advance(key, px)

    def advance(self, key: tuple[Hashable, Hashable], px: int) -> None:
        """Stop counting finished pixels."""
        self._px[key] -= px
        if not self._px[key]:
            del self._px[key]


class Reservation:
    """Room in the backlog for a job that is still being prepared; released at the end of `with` unless it was used."""

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

    def split(self, px: int) -> "Reservation":
        """Split off a reservation of up to this many LR px, for one of several jobs."""
        part_px = min(px, self._px)
        self._px -= part_px
        if part_px and self._px:
            self._backlog.count_split()
        return Reservation(self._backlog, self._key, part_px)

    def keep(self, px: int) -> None:
        """Give up all but this many LR px."""
        self.split(max(0, self._px - px)).release()

    def release(self) -> None:
        """Stop counting its LR px; calling it again does nothing."""
        if self._px:
            self._backlog.end(self._key, self._px)
            self._px = 0
