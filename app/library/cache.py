"""The networks that are in memory: who uses them, and which has to go when there are too many."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from app.library.entry import Entry, Held
from app.library.network import Network

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class LibraryCounters:
    """Totals since the start."""

    loads: int = 0
    """Networks that were loaded and passed their tests."""
    failed_loads: int = 0
    """Networks that could not be loaded, or did not pass; none of them has served."""
    swaps: int = 0
    """Networks that took the place of an earlier version."""
    evictions: int = 0
    """Networks that were unloaded for want of memory."""


class Shelf:
    """Puts networks under the names of their entries. Belongs to the event loop.

    Args:
        max_bytes: memory for all networks together. The one used least recently goes first, but none that is in use, is
            waited for or could not come back, so there may be more for a while; a single one is always taken.
        freed: called when a network is about to leave the memory.
    """

    def __init__(self, *, max_bytes: int, freed: Callable[[], object]) -> None:
        self.counters = LibraryCounters()
        self._max_bytes = max_bytes
        self._freed = freed
        self._entries: set[Entry] = set()
        """Those that have a network."""
        self._replaced: dict[Held, str] = {}
        """Networks that serve no new requests but are in use, and the names that they served under."""
        self._clock = itertools.count(1)

    @property
    def memory_bytes(self) -> int:
        """What all networks hold at the moment."""
        return self.memory_by_name().total()

    def memory_by_name(self) -> Counter[str]:
        """The memory of the networks under each name, with replaced versions and networks between two models."""
        held = Counter[str]()
        for entry in self._entries:
            held[entry.name] += entry.memory_bytes
        for replaced, name in self._replaced.items():
            held[name] += replaced.network.upscaler.memory_bytes
        return held

    def has_room(self, entry: Entry) -> bool:
        """Whether its network would fit, as far as its file tells."""
        return self.memory_bytes + entry.size_bytes <= self._max_bytes

    def put(self, entry: Entry, network: Network) -> None:
        """From now on new requests get this network."""
        self.counters.loads += 1
        self.counters.swaps += entry.held is not None
        self._leave(entry.name, entry.held)
        entry.held, entry.info, entry.reason, entry.unread = Held(network=network), network.info, None, False
        entry.used = next(self._clock)
        self._entries.add(entry)

    def drop(self, entry: Entry) -> None:
        """From now on no request gets a network of it, until another one is put there."""
        held, entry.held = entry.held, None
        self._entries.discard(entry)
        self._leave(entry.name, held)

    def take(self, entry: Entry, held: Held) -> None:
        """A request begins to use a network."""
        held.users += 1
        entry.used = next(self._clock)

    def give_back(self, held: Held) -> None:
        """A request has done with a network."""
        held.users -= 1
        if held.users:
            return
        if held in self._replaced:
            del self._replaced[held]
            self._freed()
        self.make_room()

    def make_room(self, coming: Entry | None = None) -> None:
        """Unload what was used least recently, but not the one that is about to come or has just come."""
        needed_bytes = 0 if coming is None or coming.held is not None else coming.size_bytes
        while self.memory_bytes + needed_bytes > self._max_bytes:
            idle = [entry for entry in self._entries if entry.may_go and entry is not coming]
            if not idle or (len(self._entries) == 1 and coming is None):
                return
            entry = min(idle, key=lambda entry: entry.used)
            log.info("%s is unloaded: the networks hold %d of %d bytes", entry.name, self.memory_bytes, self._max_bytes)
            self.counters.evictions += 1
            self.drop(entry)

    def _leave(self, name: str, held: Held | None) -> None:
        if held is not None and held.users:
            self._replaced[held] = name
        elif held is not None:
            self._freed()
