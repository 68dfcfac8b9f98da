"""The networks between those of a pair, kept from one request to the next."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from app.library.entry import Entry
from app.library.loading import Loader, LoadError, Loading
from app.library.network import Network
from app.library.pairs import STEPS, Pair
from app.library.shelf import Shelf

Key = tuple[Pair, int]


class Blends:
    """One entry for each pair and step. Belongs to the event loop."""

    def __init__(self, loader: Loader, shelf: Shelf) -> None:
        self._loader = loader
        self._shelf = shelf
        self._entries: dict[Key, tuple[str, Entry]] = {}
        """Each with the versions of the two that it was made of."""
        self._waiting: Counter[Entry] = Counter()

    @contextmanager
    def between(self, pair: Pair, psnr: Network, gan: Network, step: int) -> Iterator[Entry]:
        """The entry for a step between the versions that serve now; it can be loaded within the block only."""
        versions = f"{psnr.info.version} {gan.info.version}"
        known, entry = self._entries.get((pair, step), ("", None))
        if entry is None or known != versions:
            if entry is not None:
                self._shelf.drop(entry)
            entry = Entry(name=f"{pair.psnr}+{pair.gan}:{step / STEPS:.2f}", file=None, load=_impossible)
            self._entries[pair, step] = (versions, entry)
        entry.load = partial(self._loader.blend, entry.name, psnr, gan, alpha=1 - step / STEPS)
        self._waiting[entry] += 1
        try:
            yield entry
        finally:
            self._waiting[entry] -= 1
            if not self._waiting[entry]:
                del self._waiting[entry]
                entry.load = _impossible  # so that it does not keep the two in memory


def _impossible() -> Loading:
    raise LoadError("the networks that it lies between are not in memory")
