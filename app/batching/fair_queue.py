"""Fair queueing: shares of the device by weight, by virtual time."""

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

NEAR_PX = 128 * 128
"""Width of the intervals of virtual time within which new members go first, by their deadlines."""

Member = TypeVar("Member", bound=Hashable)
SortKey = tuple[float, bool, float, float, int]


@dataclass(kw_only=True)
class _Position:
    """A member's position in virtual time, and in a lane while it waits."""

    turn_px: float
    due_s: float
    weight: float
    served: bool = False
    lane: Hashable = None
    key: SortKey | None = None
    """None while it waits in no lane."""


class FairQueue(Generic[Member]):
    """Members wait in lanes; the next one is the member with the smallest turn, which has received least.

    Virtual time V counts LR px per unit of weight that waits; a member's weight is 1 unless it is given. A new member's
    turn is V. When members are served px LR px together:

        V <- min(V, mean turn of those waiting, by weight)      only while no new member waits
        V <- max(V, turn of the first) + px / weight of those waiting
        turn of each <- turn + its own px / its weight

    For example, A and B wait with turn 0, and pieces have 100 px. A runs: V becomes 50 and A's turn 100. C joins with
    turn 50, so the order is B (0), C (50), A (100), whatever the sizes of their pictures.

    With the max, a member is not charged later for what it received while nobody else waited. With the min, V does not
    run ahead of members that have been delayed by short-lived new ones; otherwise the next new member would start too
    far back and pay for those.
    """

    def __init__(self) -> None:
        self._positions: dict[Member, _Position] = {}
        self._lanes: dict[Hashable, list[tuple[SortKey, Member]]] = {}
        self._virtual_px = 0.0
        self._waiting_weight = 0.0
        self._new = 0
        self._serial = itertools.count()

    def join(
        self,
        member: Member,
        lane: Hashable,
        due_s: float | None = None,
        *,
        weight: float = 1.0,
        earliest_px: float = 0.0,
    ) -> float:
        """Add a new member to a lane; among new members with similar turns, the earliest `due_s` goes first.

        Args:
            weight: share of the device, relative to the others; powers of two keep the sum of weights exact.
            earliest_px: virtual time before which it gets no turn; if that is the end of the previous member, several
                members share the weight of one.

        Returns:
            Its turn.
        """
        due_s = math.inf if due_s is None else due_s
        turn_px = max(self._virtual_px, earliest_px)
        self._positions[member] = _Position(turn_px=turn_px, due_s=due_s, weight=weight)
        self.wait(member, lane)
        return turn_px

    def wait(self, member: Member, lane: Hashable) -> None:
        """Put a member that was served back into a lane; nothing happens if it already waits."""
        position = self._positions[member]
        if position.key is None:
            # New members first: a small picture that has just arrived runs before the next small band of a stream.
            near = position.turn_px // NEAR_PX
            position.key = (
                near,
                position.served,
                math.inf if position.served else position.due_s,
                position.turn_px,
                next(self._serial),
            )
            position.lane = lane
            insort(self._lanes.setdefault(lane, []), (position.key, member))
            self._waiting_weight += position.weight
            self._new += not position.served

    def catch_up(self, member: Member) -> None:
        """Skip the turns that a member missed while it waited in no lane."""
        position = self._positions[member]
        position.turn_px = max(position.turn_px, self._virtual_px)

    def leave(self, member: Member) -> None:
        """Remove a member, wherever it is."""
        self._step_out(member)
        del self._positions[member]

    def first(self, *, skip: Collection[Hashable] = ()) -> Member | None:
        """Return the member that is next in all lanes except some; None if nobody waits."""
        heads = [line[0] for lane, line in self._lanes.items() if lane not in skip]
        return min(heads)[1] if heads else None

    def line(self, lane: Hashable) -> Iterator[Member]:
        """Iterate over the members of a lane, first to last."""
        return (member for _, member in self._lanes.get(lane, ()))

    def serve(self, members: Sequence[Member], px: Sequence[int]) -> None:
        """Take members out of their lane and charge each for its px; `members[0]` is the one that was next."""
        if not self._new:
            self._virtual_px = min(self._virtual_px, self._mean_turn_px())
        self._virtual_px = max(self._virtual_px, self._positions[members[0]].turn_px) + sum(px) / self._waiting_weight
        for member, given_px in zip(members, px, strict=True):
            self._step_out(member)
            position = self._positions[member]
            position.turn_px += given_px / position.weight
            position.served = True

    def _step_out(self, member: Member) -> None:
        position = self._positions[member]
        if position.key is not None:
            line = self._lanes[position.lane]
            del line[bisect_left(line, (position.key,))]
            if not line:
                del self._lanes[position.lane]
            position.key = None
            self._waiting_weight -= position.weight
            self._new -= not position.served

    def _mean_turn_px(self) -> float:
        waiting = (self._positions[member] for line in self._lanes.values() for _, member in line)
        return sum(position.turn_px * position.weight for position in waiting) / self._waiting_weight
