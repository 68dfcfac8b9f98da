"""The parameter `fidelity`: pairs of models, one trained for PSNR and one trained on from it with a GAN, and blends."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from app.library.cache import Shelf
from app.library.entry import Entry
from app.library.loading import Loader, LoadError, Loading
from app.library.network import Network

STEPS = 20
"""Networks between the two of a pair are made for steps of 1 / STEPS, and kept."""

ROLE = re.compile(r"(?<![a-z])(psnr|esrgan|gan)(?![a-z])")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Names of two models that differ only in the word `psnr` of the one and `esrgan` or `gan` of the other."""

    psnr: str
    gan: str


def pairs(names: Iterable[str]) -> dict[str, Pair]:
    """The pairs among some models, by the names of both.

    Whether the two were really trained from one another is found out by their weights, when one between is made.
    """
    roles: dict[str, dict[str, str]] = {}
    for name in sorted(names):  # so that of an `esrgan` and a `gan` the former is taken
        if found := ROLE.search(name.lower()):
            rest = name.lower()[: found.start()] + "*" + name.lower()[found.end() :]
            roles.setdefault(rest, {}).setdefault("psnr" if found[1] == "psnr" else "gan", name)
    both = [Pair(psnr=role["psnr"], gan=role["gan"]) for role in roles.values() if len(role) == 2]
    return {name: pair for pair in both for name in (pair.psnr, pair.gan)}


BlendKey = tuple[Pair, int]


class Blends:
    """One entry for each pair and step. Belongs to the event loop."""

    def __init__(self, loader: Loader, shelf: Shelf) -> None:
        self._loader = loader
        self._shelf = shelf
        self._entries: dict[BlendKey, tuple[str, Entry]] = {}
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
