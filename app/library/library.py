"""The models of a folder: which there are, which are in memory, and who uses them."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.errors import NoSuchModel, Unavailable
from app.library.entry import Entry, Held, State
from app.library.files import ModelFile, model_files
from app.library.loading import Load, Loader, LoadError, Run
from app.library.network import Network

log = logging.getLogger(__name__)


class NoModelError(Exception):
    """The library cannot open: no model that could serve; the text says why."""


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


class Library:
    """Every weight file of a folder is a model by the file's name. Belongs to the event loop, once that runs.

    Whoever wants to use a network takes a lease. A new version takes the place of the old one for later leases; those
    that are out go on with what they have.

    Args:
        suffixes: of weight files, in lower case.
        on_device: runs a call in the device's thread, between two pieces of work.
        ready: called with each network that was loaded and has passed its tests, before anybody gets it.
        freed: awaited when a network is about to leave the memory.
        max_bytes: memory for all networks together. The one used least recently goes first, but none that is in use,
            so there may be more for a while; a single one is always taken.
    """

    def __init__(
        self,
        folder: Path,
        loader: Loader,
        *,
        suffixes: Collection[str],
        on_device: Run,
        ready: Callable[[Network], None],
        freed: Callable[[], Coroutine[None, None, None]],
        max_bytes: int,
    ) -> None:
        self.default = ""
        """The model for requests that name none."""
        self.counters = LibraryCounters()
        self._folder = folder
        self._loader = loader
        self._suffixes = suffixes
        self._on_device = on_device
        self._ready = ready
        self._freed = freed
        self._max_bytes = max_bytes
        self._entries: dict[str, Entry] = {}
        self._replaced: set[Held] = set()
        """Networks that serve no new requests, but are in use."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._clock = itertools.count(1)
        self._one_at_a_time = asyncio.Lock()

    def open(self, *, default: str, preferred: Sequence[str], lazily: bool) -> None:
        """Look through the folder and load what it holds, in this thread; before anything else is called.

        Args:
            default: the model for requests that name none; empty: the first of `preferred` that can serve, else the
                first by name.
            lazily: load the default only; the others follow when they are asked for.

        Raises:
            NoModelError: there is no weight file, not the default one, or none of them can serve.
        """
        for name, file in sorted(self._files().items()):
            self._entries[name] = self._entry(name, file)
        if not self._entries:
            raise NoModelError(f"{self._folder} holds no weight file ({', '.join(sorted(self._suffixes))})")
        if default and default not in self._entries:
            raise NoModelError(f"{default} is not in {self._folder}, which holds {', '.join(self._entries)}")
        first = [name for name in [default, *preferred] if name in self._entries]
        for name in dict.fromkeys([*first, *self._entries]):
            entry = self._entries[name]
            if not self.default or not (lazily or self._is_full(entry)):
                self._load_now(entry)
            if not self.default and entry.held is not None:
                self.default = name
        if not self.default:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in self._entries.items())
            raise NoModelError(f"no weight file of {self._folder} can serve: {reasons}")
        self.default = default or self.default

    def entries(self) -> Iterable[Entry]:
        """All models, by name."""
        return [entry for _, entry in sorted(self._entries.items())]

    @property
    def memory_bytes(self) -> int:
        """What all networks hold at the moment."""
        replaced = sum(held.network.upscaler.memory_bytes for held in self._replaced)
        return replaced + sum(entry.memory_bytes for entry in self._entries.values())

    def find(self, name: str | None) -> Entry:
        """The model of that name, or the default one.

        Raises:
            NoSuchModel: there is none.
        """
        name = name or self.default
        if name not in self._entries:
            raise NoSuchModel(f"there is no model {name[:100]!r}; there are {', '.join(sorted(self._entries))}")
        return self._entries[name]

    @asynccontextmanager
    async def lease(self, name: str | None) -> AsyncIterator[Network]:
        """Use a model's network; where it is not in memory, wait until it is.

        Raises:
            NoSuchModel: there is none of that name.
            Unavailable: it cannot be loaded.
        """
        entry = self.find(name)
        while (held := entry.held) is None:
            await self._loaded(entry)
        entry.used = next(self._clock)
        held.users += 1
        try:
            yield held.network
        finally:
            held.users -= 1
            if not held.users:
                self._returned(held)

    def close(self) -> None:
        """Break off all that goes on; whoever waits for a network is answered by the end of the service."""
        for task in self._tasks:
            task.cancel()

    def _files(self) -> dict[str, ModelFile]:
        return model_files(self._folder, self._suffixes)

    def _entry(self, name: str, file: ModelFile) -> Entry:
        return Entry(name=name, file=file, load=partial(self._loader.file, name, file.path))

    async def _loaded(self, entry: Entry) -> None:
        """Wait for a load of this model. Whoever gives up waiting leaves it to the others."""
        if entry.state is State.FAILED:
            raise Unavailable(f"the model {entry.name} cannot serve: {entry.reason}")
        if entry.loading is None:
            entry.loading = self._start(self._load(entry), f"load {entry.name}")
        await asyncio.shield(entry.loading)

    async def _load(self, entry: Entry) -> None:
        try:
            async with self._one_at_a_time:
                self._make_room(entry)
                network = await Load(entry.load()).between(beside=_in_thread, on_device=self._on_device)
                self._take(entry, network)
        except Exception as error:
            self._failed(entry, error)
        finally:
            entry.loading = None

    def _load_now(self, entry: Entry) -> None:
        try:
            self._take(entry, Load(entry.load()).now())
        except Exception as error:
            self._failed(entry, error)

    def _take(self, entry: Entry, network: Network) -> None:
        self._ready(network)
        self.counters.loads += 1
        self.counters.swaps += entry.held is not None
        self._replace(entry, network)
        entry.info, entry.reason, entry.used = network.info, None, next(self._clock)
        log.info("%s is ready on %s in %s", network.info.version, network.info.device, network.info.precision)

    def _failed(self, entry: Entry, error: Exception) -> None:
        expected = isinstance(error, LoadError)
        entry.reason = str(error) if expected else "an unexpected error; the service's log has it"
        self.counters.failed_loads += 1
        log.error("%s cannot serve: %s", entry.name, entry.reason, exc_info=None if expected else error)

    def _is_full(self, entry: Entry) -> bool:
        assert entry.file is not None
        return self.memory_bytes + entry.file.size_bytes > self._max_bytes

    def _make_room(self, coming: Entry | None = None) -> None:
        """Unload what was used least recently and is not in use, also for one that is about to come."""
        needed_bytes = coming.file.size_bytes if coming is not None and coming.file is not None else 0
        while self.memory_bytes + needed_bytes > self._max_bytes:
            held = [entry for entry in self._entries.values() if entry.held is not None]
            idle = [entry for entry in held if entry.held is not None and not entry.held.users]
            if not idle or (len(held) == 1 and coming is None):
                return
            self._unload(min(idle, key=lambda entry: entry.used))

    def _unload(self, entry: Entry) -> None:
        log.info("%s is unloaded: the networks have %d of %d bytes", entry.name, self.memory_bytes, self._max_bytes)
        self.counters.evictions += 1
        self._replace(entry, None)

    def _replace(self, entry: Entry, network: Network | None) -> None:
        """From now on new leases get another network; those that are out keep the old one."""
        old, entry.held = entry.held, Held(network=network) if network is not None else None
        if old is None:
            return
        if old.users:
            self._replaced.add(old)
        else:
            self._start(self._freed(), "give memory back")

    def _returned(self, held: Held) -> None:
        """The last lease of a network has ended."""
        if held in self._replaced:
            self._replaced.remove(held)
            self._start(self._freed(), "give memory back")
        self._make_room()

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _in_thread(call: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(call)
