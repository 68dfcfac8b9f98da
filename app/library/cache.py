"""Cache of the networks in memory: counts their users and evicts the least recently used one."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from app.library.entry import Entry, LoadedNetwork
from app.library.network import Network

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class LibraryCounters:
    """Totals since the start."""

    loads: int = 0
    """Networks that were loaded and passed their tests."""
    failed_loads: int = 0
    """Networks that failed to load or did not pass; none of them has served."""
    swaps: int = 0
    """Networks that replaced an earlier version."""
    evictions: int = 0
    """Networks that were unloaded to free memory."""


class NetworkCache:
    """Holds the networks of entries. Belongs to the event loop.

    Args:
        max_bytes: memory for all networks together. The least recently used one is evicted first, but never one that is
            in use, has requests waiting for it or could not be loaded again, so the limit may be exceeded for a while;
            a single network is always kept.
        freed: called when a network is about to leave the memory.
    """

    def __init__(self, *, max_bytes: int, freed: Callable[[], object]) -> None:
        self.counters = LibraryCounters()
        self._max_bytes = max_bytes
        self._freed = freed
        self._entries: set[Entry] = set()
        """Entries with a loaded network."""
        self._replaced: dict[LoadedNetwork, str] = {}
        """Replaced networks that are still in use, and the names that they served under."""
        self._clock = itertools.count(1)

    @property
    def memory_bytes(self) -> int:
        """Memory of all networks."""
        return self.memory_by_name().total()

    def memory_by_name(self) -> Counter[str]:
        """Return the memory of the networks under each name, including replaced versions and blends."""
        loaded = Counter[str]()
        for entry in self._entries:
            loaded[entry.name] += entry.memory_bytes
        for replaced, name in self._replaced.items():
            loaded[name] += replaced.network.upscaler.memory_bytes
        return loaded

    def has_room(self, entry: Entry) -> bool:
        """Return True if its network should fit, judged by the size of its file."""
        return self.memory_bytes + entry.size_bytes <= self._max_bytes

    def store(self, entry: Entry, network: Network) -> None:
        """Make a network serve the entry's new requests."""
        self.counters.loads += 1
        self.counters.swaps += entry.loaded is not None
        self._leave(entry.name, entry.loaded)
        entry.loaded, entry.info = LoadedNetwork(network=network), network.info
        entry.reason, entry.unreadable, entry.full_until_s = None, False, None
        entry.used = next(self._clock)
        self._entries.add(entry)

    def drop(self, entry: Entry) -> None:
        """Stop serving an entry until another network is stored for it."""
        loaded, entry.loaded = entry.loaded, None
        self._entries.discard(entry)
        self._leave(entry.name, loaded)

    def acquire(self, entry: Entry, loaded: LoadedNetwork) -> None:
        """Count a request that uses a network."""
        loaded.users += 1
        entry.used = next(self._clock)

    def release(self, loaded: LoadedNetwork) -> None:
        """Count a request that no longer uses a network."""
        loaded.users -= 1
        if loaded.users:
            return
        if loaded in self._replaced:
            del self._replaced[loaded]
            self._freed()
        self.make_room()

    def make_room(self, incoming: Entry | None = None) -> None:
        """Evict the least recently used networks, except the one that is about to be loaded or just was."""
        needed_bytes = 0 if incoming is None or incoming.loaded is not None else incoming.size_bytes
        while self.memory_bytes + needed_bytes > self._max_bytes:
            idle = [entry for entry in self._entries if entry.is_evictable and entry is not incoming]
            if not idle or (len(self._entries) == 1 and incoming is None):
                return
            entry = min(idle, key=lambda entry: entry.used)
            log.info("unloading %s: the networks use %d of %d bytes", entry.name, self.memory_bytes, self._max_bytes)
            self.counters.evictions += 1
            self.drop(entry)

    def _leave(self, name: str, loaded: LoadedNetwork | None) -> None:
        if loaded is not None and loaded.users:
            self._replaced[loaded] = name
        elif loaded is not None:
            self._freed()
