"""Whose turn it is: fair shares of the device for all requests, in virtual time."""

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

NEAR_PX = 128 * 128
"""Turns in one interval of this much virtual time are near: there newcomers go first, by their deadlines."""

Member = TypeVar("Member", bound=Hashable)
SortKey = tuple[float, bool, float, float, int]


@dataclass(kw_only=True)
class _Position:
    """A member's place in virtual time, and in a lane while it waits there."""

    turn_px: float
    due_s: float
    served: bool = False
    lane: Hashable = None
    key: SortKey | None = None
    """None while it is in no lane."""


class FairQueue(Generic[Member]):
    """Members wait in lanes; the first of a lane, and of all lanes, is the one that has had the least.

    Virtual time counts LR px per waiting member. A member that is served moves back by the LR px that it was given,
    virtual time moves on by these divided by the number of those that wait, and newcomers start at virtual time. So
    all get the same share, whatever they bring, and nobody is passed over for long by those who come later. Virtual
    time never lies behind the member that is served: what one gets while nobody else waits is not held against it. And
    while nobody new waits, it is not ahead of the mean of those who do: they have made up for the newcomers that came
    and went, and the next one shall not pay for those.
    """

    def __init__(self) -> None:
        self._positions: dict[Member, _Position] = {}
        self._lanes: dict[Hashable, list[tuple[SortKey, Member]]] = {}
        self._virtual_px = 0.0
        self._waiting = 0
        self._new = 0
        self._serial = itertools.count()

    def join(self, member: Member, lane: Hashable, due_s: float | None = None) -> None:
        """A newcomer waits in a lane; of newcomers whose turns are near, the earliest `due_s` goes first."""
        due_s = math.inf if due_s is None else due_s
        self._positions[member] = _Position(turn_px=self._virtual_px, due_s=due_s)
        self.wait(member, lane)

    def wait(self, member: Member, lane: Hashable) -> None:
        """A member that was served waits again; nothing happens to one that waits already."""
        position = self._positions[member]
        if position.key is None:
            # Streams come after newcomers: a small picture that has just come is answered before the next small band.
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
            self._waiting += 1
            self._new += not position.served

    def catch_up(self, member: Member) -> None:
        """Forgo the turns that passed while a member that is in no lane did not want them."""
        position = self._positions[member]
        position.turn_px = max(position.turn_px, self._virtual_px)

    def leave(self, member: Member) -> None:
        """Forget a member, wherever it is."""
        self._step_out(member)
        del self._positions[member]

    def first(self, *, skip: Hashable = None) -> Member | None:
        """Whose turn it is, of all lanes but one."""
        heads = [line[0] for lane, line in self._lanes.items() if lane != skip]
        return min(heads)[1] if heads else None

    def line(self, lane: Hashable) -> Iterator[Member]:
        """Those that wait in a lane, first to last."""
        return (member for _, member in self._lanes.get(lane, ()))

    def serve(self, members: Sequence[Member], px: Sequence[int]) -> None:
        """Take members out of their lane and charge each what it is given; the first is the one whose turn it is."""
        if not self._new:
            self._virtual_px = min(self._virtual_px, self._mean_turn_px())
        self._virtual_px = max(self._virtual_px, self._positions[members[0]].turn_px) + sum(px) / self._waiting
        for member, given_px in zip(members, px, strict=True):
            self._step_out(member)
            position = self._positions[member]
            position.turn_px += given_px
            position.served = True

    def _step_out(self, member: Member) -> None:
        position = self._positions[member]
        if position.key is not None:
            line = self._lanes[position.lane]
            del line[bisect_left(line, (position.key,))]
            if not line:
                del self._lanes[position.lane]
            position.key = None
            self._waiting -= 1
            self._new -= not position.served

    def _mean_turn_px(self) -> float:
        waiting = (self._positions[member].turn_px for line in self._lanes.values() for _, member in line)
        return sum(waiting) / self._waiting
