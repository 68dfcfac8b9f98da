"""The models of a folder: those that exist, are in memory, or are in use."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from app.batching.job import DeviceLost
from app.errors import DeadlinePassed, NoSuchModel, Unavailable, Unprocessable
from app.library.cache import LibraryCounters, NetworkCache
from app.library.entry import READ_RETRY_S, Entry, ModelState
from app.library.fidelity import STEPS, Blends, Pair, pair_for, pairs
from app.library.files import Folder, ModelFile
from app.library.loading import Loader, LoadError, Loading, RunInThread, RunNow, load_between, load_now
from app.library.network import Network
from app.outages import Outage, repeat

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class NoModelError(Exception):
    """No model can serve; the text says why."""


class Library:
    """Serves every weight file of a folder as a model named after the file. Belongs to the event loop once that runs.

    A request leases the network that it uses. A new version serves later leases; earlier leases keep their network.

    Args:
        on_device: runs a call in the device's thread, between two pieces of work.
        ready: called with each loaded and tested network, before it is used.
        freed: awaited before a network is removed from memory.
        max_bytes: maximum memory of all networks together; see `NetworkCache`.
    """

    def __init__(
        self,
        folder: Folder,
        loader: Loader,
        *,
        on_device: RunInThread,
        ready: Callable[[Network], None],
        freed: Callable[[], Coroutine[None, None, None]],
        max_bytes: int,
    ) -> None:
        self.default = ""
        """Name of the model for requests that name none."""
        self._folder = folder
        self._loader = loader
        self._on_device = on_device
        self._ready = ready
        self._cache = NetworkCache(max_bytes=max_bytes, freed=lambda: self._start(freed(), "release memory"))
        self._entries: dict[str, Entry] = {}
        self._blends = Blends(loader, self._cache)
        self._seen: dict[str, ModelFile] = {}
        """Files in the folder when it was last read."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._one_at_a_time = asyncio.Lock()

    def open(self, *, default: str, preferred: Sequence[str], lazily: bool, run: RunNow) -> None:
        """Read the folder and load its models; call it before anything else.

        Args:
            default: the model for requests that name none; if empty, the first of `preferred` that works, else the
                first by name.
            lazily: load only the default model; the others are loaded by their first request.
            run: runs a step of loading; may raise `DeviceLost`.

        Raises:
            NoModelError: there is no weight file, the default one is missing, or none works.
        """
        try:
            self._seen = self._folder.files()
        except OSError as error:
            raise NoModelError(f"{self._folder.path} is not a readable folder ({error.strerror})") from error
        for name, file in sorted(self._seen.items()):
            self._entries[name] = self._entry(name, file)
        if not self._entries:
            ignored = "".join(f"; {name}: {reason}" for name, reason in self._folder.ignored().items())
            raise NoModelError(f"{self._folder.path} has no weight file{ignored}")
        if default and default not in self._entries:
            raise NoModelError(f"{default} is not in {self._folder.path}, which has {', '.join(self._entries)}")
        first = [name for name in [default, *preferred] if name in self._entries]
        for name in dict.fromkeys([*first, *self._entries]):
            entry = self._entries[name]
            if not self.default or (not lazily and self._cache.has_room(entry)):
                self._load_now(entry, run)
            if not self.default and entry.loaded is not None:
                self.default = name
        if not self.default:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in self._entries.items())
            raise NoModelError(f"no weight file of {self._folder.path} can serve: {reasons}")
        self.default = default or self.default

    def entries(self) -> Iterable[Entry]:
        """Return all models, sorted by name."""
        return [entry for _, entry in sorted(self._entries.items())]

    @property
    def memory_bytes(self) -> int:
        """Memory of all networks in bytes."""
        return self._cache.memory_bytes

    def memory_by_name(self) -> Mapping[str, int]:
        """Return the memory of the networks under each name, including blends of pairs."""
        return dict.fromkeys(self._entries, 0) | self._cache.memory_by_name()

    @property
    def counters(self) -> LibraryCounters:
        """Totals since the start."""
        return self._cache.counters

    def find(self, name: str | None) -> Entry:
        """Return the model with this name, or the default one.

        Raises:
            NoSuchModel: there is no such model.
        """
        name = name or self.default
        if name not in self._entries:
            shown = name.partition("?")[0][:100]  # the query of a URL may be a secret
            raise NoSuchModel(f"there is no model {shown!r}; the models are {', '.join(sorted(self._entries))}")
        return self._entries[name]

    def pair_of(self, name: str) -> Pair | None:
        """Return the pair that a model belongs to, if any."""
        return pairs(self._entries).get(name)

    def pair_for(self, name: str | None, fidelity: float) -> Pair:
        """Return the pair of a model, for a request with a fidelity.

        Raises:
            NoSuchModel: there is no model with this name.
            Unprocessable: the model has no pair.
        """
        return pair_for(self.find(name).name, fidelity, self._entries)

    @asynccontextmanager
    async def lease(
        self, name: str | None, fidelity: float | None = None, *, deadline_s: float | None = None
    ) -> AsyncIterator[Network]:
        """Use a model's network within the block; it is loaded first if necessary.

        Args:
            fidelity: 1 for the model of its pair that was trained for PSNR, 0 for the one trained with a GAN, and a
                blend of both in between, in steps of 1 / `STEPS`.
            deadline_s: latest time to have the network, on the event loop's clock.

        Raises:
            NoSuchModel: there is no model with this name.
            Unprocessable: the model has no pair.
            Unavailable: the network cannot be loaded.
            DeadlinePassed: the network was not loaded in time.
        """
        async with AsyncExitStack() as leases:
            try:
                async with asyncio.timeout_at(deadline_s):
                    network = await self._network(name, fidelity, leases)
            except TimeoutError as error:
                raise DeadlinePassed(
                    "the model was still being loaded when the deadline passed; allow more time, or try again soon"
                ) from error
            yield network

    def watch(self, every_s: float) -> None:
        """Start to poll the folder for changes."""
        self._start(repeat(self.refresh, every_s, Outage(log, "read the model folder")), "watch the models")

    async def refresh(self) -> None:
        """Apply changes in the folder; a file is complete once it looks the same twice in a row."""
        before, self._seen = self._seen, await asyncio.to_thread(self._folder.files)
        for name, file in self._seen.items():
            entry = self._entries.get(name)
            if before.get(name) == file and (entry is None or entry.file != file or entry.is_due):
                await self._replace(name, file)
        for name, entry in list(self._entries.items()):
            if entry.file is not None and name not in self._seen and name not in before:
                await self._remove(entry)

    async def reload(self, name: str) -> Entry:
        """Reload the file of a model now, even if it has not changed.

        Raises:
            NoSuchModel: there is no such file.
            Unprocessable: the file cannot serve; a loaded version keeps serving.
            Unavailable: the file cannot be read at the moment.
        """
        try:
            file = (await asyncio.to_thread(self._folder.files)).get(name)
        except OSError as error:
            text = f"the model folder cannot be read at the moment ({error.strerror}); try again"
            raise Unavailable(text, retry_after_s=READ_RETRY_S) from error
        if file is None:
            raise NoSuchModel(f"there is no weight file for a model {name[:100]!r}")
        entry = await asyncio.shield(self._start(self._replace(name, file), f"reload {name}"))
        if entry.is_tried_again:
            raise entry.temporary_error()
        if entry.reason is not None:
            raise Unprocessable(f"{entry.name} was not reloaded: {entry.reason}")
        return entry

    def close(self) -> None:
        """Cancel all background tasks; requests that wait for a network fail when the service stops."""
        for task in self._tasks:
            task.cancel()

    async def _replace(self, name: str, file: ModelFile) -> Entry:
        """Load a file next to the current version, and replace that one when the new one has passed its tests."""
        while (entry := self._entries.setdefault(name, self._entry(name, file))).loading is not None:
            await asyncio.wait({entry.loading})
        entry.file, entry.load = file, partial(self._loader.file, name, file.path)
        entry.loading = self._start(self._load(entry, entry.load), f"load {name}")
        await asyncio.wait({entry.loading})
        return entry

    async def _remove(self, entry: Entry) -> None:
        """Remove a model whose file is gone, unless it is the default one, or its file has come back meanwhile."""
        file = entry.file
        while entry.loading is not None:
            await asyncio.wait({entry.loading})
        if entry.file is not file:
            return
        entry.file = None
        if entry.name == self.default:
            entry.reason = "its file was removed; the default model stays in memory until the service stops"
            log.warning("%s: %s", entry.name, entry.reason)
            return
        log.info("%s was removed: its file is gone", entry.name)
        del self._entries[entry.name]
        self._cache.drop(entry)

    def _entry(self, name: str, file: ModelFile) -> Entry:
        return Entry(name=name, file=file, load=partial(self._loader.file, name, file.path))

    async def _network(self, name: str | None, fidelity: float | None, leases: AsyncExitStack) -> Network:
        if fidelity is None:
            return await self._acquire(partial(self.find, name), leases)
        pair = self.pair_for(name, fidelity)
        step = round(fidelity * STEPS)
        if step in (0, STEPS):
            return await self._acquire(partial(self.find, pair.psnr if step else pair.gan), leases)
        return await self._blend(pair, step, leases)

    async def _acquire(self, find: Callable[[], Entry], leases: AsyncExitStack) -> Network:
        while (loaded := (entry := find()).loaded) is None:
            entry.waiting += 1  # the next load must not evict the network of this request
            try:
                await self._wait_until_loaded(entry)
            finally:
                entry.waiting -= 1
        self._cache.acquire(entry, loaded)
        leases.callback(self._cache.release, loaded)
        return loaded.network

    async def _blend(self, pair: Pair, step: int, leases: AsyncExitStack) -> Network:
        """Lease a blend of the current networks of a pair; both stay in use until it is made."""
        async with AsyncExitStack() as originals:
            psnr, gan = [await self._acquire(partial(self.find, name), originals) for name in (pair.psnr, pair.gan)]
            with self._blends.between(pair, psnr, gan, step) as entry:
                try:
                    return await self._acquire(lambda: entry, leases)
                except Unavailable as error:
                    if entry.is_tried_again:
                        raise
                    raise Unprocessable(f"fidelity = {step / STEPS:g}: {entry.reason}; leave it out") from error

    async def _wait_until_loaded(self, entry: Entry) -> None:
        """Wait for a load of this model; the load continues if this task is cancelled."""
        if entry.state is ModelState.FAILED:
            raise Unavailable(f"the model {entry.name} cannot serve: {entry.reason}")
        if entry.loading is None:
            entry.loading = self._start(self._load(entry, entry.load), f"load {entry.name}")
        await asyncio.shield(entry.loading)
        if entry.loaded is None and entry.is_tried_again:
            raise entry.temporary_error()

    async def _load(self, entry: Entry, load: Callable[[], Loading]) -> None:
        try:
            async with self._one_at_a_time:
                self._cache.make_room(entry)
                network = await load_between(load(), in_thread=asyncio.to_thread, on_device=self._on_device)
                self._take(entry, network)
                self._cache.make_room(entry)
        except Exception as error:
            self._failed(entry, error)
        finally:
            entry.loading = None

    def _load_now(self, entry: Entry, run: RunNow) -> None:
        try:
            self._take(entry, load_now(entry.load(), run))
        except DeviceLost:  # no other network would work either
            raise
        except Exception as error:
            self._failed(entry, error)

    def _take(self, entry: Entry, network: Network) -> None:
        self._ready(network)
        self._cache.store(entry, network)
        info, convolution = network.info, network.upscaler.convolution
        log.info("%s is ready on %s in %s, by %s", info.version, info.device, info.precision, convolution)

    def _failed(self, entry: Entry, error: Exception) -> None:
        expected, known = isinstance(error, LoadError), entry.reason
        entry.fail(error)
        if not entry.is_tried_again or entry.reason != known:  # retries with the same result are logged once
            self._cache.counters.failed_loads += 1
            log.error("%s was not loaded: %s", entry.name, entry.reason, exc_info=None if expected else error)

    def _start(self, work: Coroutine[None, None, Result], name: str) -> asyncio.Task[Result]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
