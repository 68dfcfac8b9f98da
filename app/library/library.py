"""The models of a folder: which there are, which are in memory, and who uses them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from app.errors import DeadlinePassed, NoSuchModel, Unavailable, Unprocessable
from app.library.cache import LibraryCounters, Shelf
from app.library.entry import READ_AGAIN_S, Entry, State
from app.library.fidelity import STEPS, Blends, Pair, pairs
from app.library.files import Folder, ModelFile
from app.library.loading import Load, Loader, LoadError, Run, UnreadableError
from app.library.network import Network
from app.library.watch import keep_looking

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class NoModelError(Exception):
    """The library cannot open: no model that could serve; the text says why."""


class Library:
    """Every weight file of a folder is a model by the file's name. Belongs to the event loop, once that runs.

    Whoever wants to use a network takes a lease. A new version takes the place of the old one for later leases; those
    that are out go on with what they have.

    Args:
        on_device: runs a call in the device's thread, between two pieces of work.
        ready: called with each network that was loaded and has passed its tests, before anybody gets it.
        freed: awaited when a network is about to leave the memory.
        max_bytes: memory for all networks together, see `Shelf`.
    """

    def __init__(
        self,
        folder: Folder,
        loader: Loader,
        *,
        on_device: Run,
        ready: Callable[[Network], None],
        freed: Callable[[], Coroutine[None, None, None]],
        max_bytes: int,
    ) -> None:
        self.default = ""
        """The model for requests that name none."""
        self._folder = folder
        self._loader = loader
        self._on_device = on_device
        self._ready = ready
        self._shelf = Shelf(max_bytes=max_bytes, freed=lambda: self._start(freed(), "give memory back"))
        self._entries: dict[str, Entry] = {}
        self._blends = Blends(loader, self._shelf)
        self._seen: dict[str, ModelFile] = {}
        """What lay in the folder when it was last looked at."""
        self._tasks: set[asyncio.Task[Any]] = set()
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
        try:
            self._seen = self._folder.files()
        except OSError as error:
            raise NoModelError(f"{self._folder.path} is no folder that can be read ({error.strerror})") from error
        for name, file in sorted(self._seen.items()):
            self._entries[name] = self._entry(name, file)
        if not self._entries:
            others = "".join(f"; {name}: {reason}" for name, reason in self._folder.others().items())
            raise NoModelError(f"{self._folder.path} holds no weight file{others}")
        if default and default not in self._entries:
            raise NoModelError(f"{default} is not in {self._folder.path}, which holds {', '.join(self._entries)}")
        first = [name for name in [default, *preferred] if name in self._entries]
        for name in dict.fromkeys([*first, *self._entries]):
            entry = self._entries[name]
            if not self.default or (not lazily and self._shelf.has_room(entry)):
                self._load_now(entry)
            if not self.default and entry.held is not None:
                self.default = name
        if not self.default:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in self._entries.items())
            raise NoModelError(f"no weight file of {self._folder.path} can serve: {reasons}")
        self.default = default or self.default

    def entries(self) -> Iterable[Entry]:
        """All models, by name."""
        return [entry for _, entry in sorted(self._entries.items())]

    @property
    def memory_bytes(self) -> int:
        """What all networks hold at the moment."""
        return self._shelf.memory_bytes

    def memory_by_name(self) -> Mapping[str, int]:
        """The memory that the networks under each name hold: of all models, and of those between the two of a pair."""
        return dict.fromkeys(self._entries, 0) | self._shelf.memory_by_name()

    @property
    def counters(self) -> LibraryCounters:
        """Totals since the start."""
        return self._shelf.counters

    def find(self, name: str | None) -> Entry:
        """The model of that name, or the default one.

        Raises:
            NoSuchModel: there is none.
        """
        name = name or self.default
        if name not in self._entries:
            raise NoSuchModel(f"there is no model {name[:100]!r}; there are {', '.join(sorted(self._entries))}")
        return self._entries[name]

    def pair_of(self, name: str) -> Pair | None:
        """The pair that a model belongs to."""
        return pairs(self._entries).get(name)

    @asynccontextmanager
    async def lease(
        self, name: str | None, fidelity: float | None = None, *, deadline_s: float | None = None
    ) -> AsyncIterator[Network]:
        """Use a model's network; where it is not in memory, wait until it is.

        Args:
            fidelity: 1 for the one of its pair that was trained for PSNR, 0 for the one trained with a GAN, in between
                for one between the two; taken in steps of 1 / `STEPS`.
            deadline_s: on the event loop's clock.

        Raises:
            NoSuchModel: there is none of that name.
            Unprocessable: it has no pair.
            Unavailable: it cannot be loaded.
            DeadlinePassed: it was not loaded in time.
        """
        async with AsyncExitStack() as leases:
            try:
                async with asyncio.timeout_at(deadline_s):
                    network = await self._network(name, fidelity, leases)
            except TimeoutError as error:
                raise DeadlinePassed("the model was still being loaded; allow more time, or try again soon") from error
            yield network

    def watch(self, every_s: float) -> None:
        """Begin to look into the folder, again and again."""
        self._start(keep_looking(self.look, every_s), "watch the models")

    async def look(self) -> None:
        """Take over what has changed in the folder: what looks the same twice is not being written any more."""
        before, self._seen = self._seen, await asyncio.to_thread(self._folder.files)
        for name, file in self._seen.items():
            entry = self._entries.get(name)
            if before.get(name) == file and (entry is None or entry.file != file or entry.unread):
                await self._renew(name, file)
        for name, entry in list(self._entries.items()):
            if entry.file is not None and name not in self._seen and name not in before:
                await self._remove(entry)

    async def reload(self, name: str) -> Entry:
        """Load the file of a model now, whether it has changed or not.

        Raises:
            NoSuchModel: there is no such file.
            Unprocessable: it cannot serve; if it did before, that version serves on.
            Unavailable: it cannot be read at the moment.
        """
        try:
            file = (await asyncio.to_thread(self._folder.files)).get(name)
        except OSError as error:
            text = f"the folder of models cannot be read at the moment ({error.strerror}); try again"
            raise Unavailable(text, retry_after_s=READ_AGAIN_S) from error
        if file is None:
            raise NoSuchModel(f"there is no weight file of a model {name[:100]!r}")
        entry = await asyncio.shield(self._start(self._renew(name, file), f"reload {name}"))
        if entry.unread:
            raise entry.unreadable()
        if entry.reason is not None:
            raise Unprocessable(f"{entry.name} was not reloaded: {entry.reason}")
        return entry

    def close(self) -> None:
        """Break off all that goes on; whoever waits for a network is answered by the end of the service."""
        for task in self._tasks:
            task.cancel()

    async def _renew(self, name: str, file: ModelFile) -> Entry:
        """Load a file in the shadow; the version that serves is replaced only once the new one has passed its tests."""
        entry = self._entries.setdefault(name, self._entry(name, file))
        while entry.loading is not None:
            await asyncio.wait({entry.loading})
        entry.file, entry.load = file, partial(self._loader.file, name, file.path)
        entry.loading = self._start(self._load(entry), f"load {name}")
        await asyncio.wait({entry.loading})
        return entry

    async def _remove(self, entry: Entry) -> None:
        """A file is gone, and its model with it, but for the default one."""
        while entry.loading is not None:
            await asyncio.wait({entry.loading})
        entry.file = None
        if entry.name == self.default:
            entry.reason = "its file was removed; the default model stays as it is in memory, until the service ends"
            log.warning("%s: %s", entry.name, entry.reason)
            return
        log.info("%s is gone: its file was removed", entry.name)
        del self._entries[entry.name]
        self._shelf.drop(entry)

    def _entry(self, name: str, file: ModelFile) -> Entry:
        return Entry(name=name, file=file, load=partial(self._loader.file, name, file.path))

    async def _network(self, name: str | None, fidelity: float | None, leases: AsyncExitStack) -> Network:
        if fidelity is None:
            return await self._taken(partial(self.find, name), leases)
        pair = self.pair_of(self.find(name).name)
        if pair is None:
            known = "; ".join(sorted({f"{pair.psnr} and {pair.gan}" for pair in pairs(self._entries).values()}))
            raise Unprocessable(
                f"fidelity = {fidelity:g}: {self.find(name).name} is not one of a pair; leave fidelity out, or name a "
                f"model that is ({known or 'there are none'})"
            )
        step = round(fidelity * STEPS)
        if step in (0, STEPS):
            return await self._taken(partial(self.find, pair.psnr if step else pair.gan), leases)
        return await self._blend(pair, step, leases)

    async def _taken(self, find: Callable[[], Entry], leases: AsyncExitStack) -> Network:
        while (held := (entry := find()).held) is None:
            entry.waiting += 1  # or the next load would make room by unloading what was loaded for this request
            try:
                await self._loaded(entry)
            finally:
                entry.waiting -= 1
        self._shelf.take(entry, held)
        leases.callback(self._shelf.give_back, held)
        return held.network

    async def _blend(self, pair: Pair, step: int, leases: AsyncExitStack) -> Network:
        """A network between those that serve as a pair at the moment; both are in use until it is made."""
        async with AsyncExitStack() as originals:
            psnr, gan = [await self._taken(partial(self.find, name), originals) for name in (pair.psnr, pair.gan)]
            with self._blends.between(pair, psnr, gan, step) as entry:
                try:
                    return await self._taken(lambda: entry, leases)
                except Unavailable as error:
                    raise Unprocessable(f"fidelity = {step / STEPS:g}: {entry.reason}; leave it out") from error

    async def _loaded(self, entry: Entry) -> None:
        """Wait for a load of this model. Whoever gives up waiting leaves it to the others."""
        if entry.state is State.FAILED:
            raise Unavailable(f"the model {entry.name} cannot serve: {entry.reason}")
        if entry.loading is None:
            entry.loading = self._start(self._load(entry), f"load {entry.name}")
        await asyncio.shield(entry.loading)
        if entry.held is None and entry.unread:
            raise entry.unreadable()

    async def _load(self, entry: Entry) -> None:
        try:
            async with self._one_at_a_time:
                self._shelf.make_room(entry)
                network = await Load(entry.load()).between(beside=_in_thread, on_device=self._on_device)
                self._take(entry, network)
                self._shelf.make_room(entry)
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
        self._shelf.put(entry, network)
        log.info("%s is ready on %s in %s", network.info.version, network.info.device, network.info.precision)

    def _failed(self, entry: Entry, error: Exception) -> None:
        expected, known = isinstance(error, LoadError), entry.reason
        entry.reason = str(error) if expected else "an unexpected error; the service's log has it"
        entry.unread = isinstance(error, UnreadableError)
        if entry.held is not None:
            entry.reason += f"; {entry.held.network.info.version} serves on"
        if not (entry.unread and entry.reason == known):  # it is tried again and again
            self._shelf.counters.failed_loads += 1
            log.error("%s was not loaded: %s", entry.name, entry.reason, exc_info=None if expected else error)

    def _start(self, work: Coroutine[None, None, Result], name: str) -> asyncio.Task[Result]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _in_thread(call: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(call)
