"""The parameter `fidelity`: pairs of models trained for PSNR and with a GAN, and blends of the two."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from app.errors import Unprocessable
from app.library.cache import NetworkCache
from app.library.entry import Entry
from app.library.loading import Loader, LoadError, Loading
from app.library.network import Network

STEPS = 20
"""Blends of a pair are made in steps of 1 / STEPS, and cached."""

ROLE = re.compile(r"(?<![a-z])(psnr|esrgan|gan)(?![a-z])")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Names of two models that differ only in `psnr` in one and `esrgan` or `gan` in the other."""

    psnr: str
    gan: str


def pairs(names: Iterable[str]) -> dict[str, Pair]:
    """Find the pairs among some models; returns each under both of its names.

    Names only suggest a pair. Whether one was trained from the other is checked on the weights when a blend is made.
    """
    roles: dict[str, dict[str, str]] = {}
    for name in sorted(names):  # so that `esrgan` is preferred to `gan`
        if found := ROLE.search(name.lower()):
            rest = name.lower()[: found.start()] + "*" + name.lower()[found.end() :]
            roles.setdefault(rest, {}).setdefault("psnr" if found[1] == "psnr" else "gan", name)
    both = [Pair(psnr=role["psnr"], gan=role["gan"]) for role in roles.values() if len(role) == 2]
    return {name: pair for pair in both for name in (pair.psnr, pair.gan)}


def pair_for(model: str, fidelity: float, names: Iterable[str]) -> Pair:
    """Return the pair of a model, for a request with a fidelity.

    Args:
        names: of all models.

    Raises:
        Unprocessable: it has no pair.
    """
    known = pairs(names)
    if model not in known:
        listed = "; ".join(sorted({f"{pair.psnr} and {pair.gan}" for pair in known.values()}))
        raise Unprocessable(
            f"fidelity = {fidelity:g}: {model} is not one of a pair; leave fidelity out, or name a model that is "
            f"({listed or 'there are none'})"
        )
    return known[model]


BlendKey = tuple[Pair, int]


class Blends:
    """Entries of blended networks, one for each pair and step. Belongs to the event loop."""

    def __init__(self, loader: Loader, cache: NetworkCache) -> None:
        self._loader = loader
        self._cache = cache
        self._entries: dict[BlendKey, tuple[str, Entry]] = {}
        """Each with the versions of the two networks that it was made from."""

    @contextmanager
    def between(self, pair: Pair, psnr: Network, gan: Network, step: int) -> Iterator[Entry]:
        """Provide the entry for a step between two networks; it can be loaded only within the block."""
        versions = f"{psnr.info.version} {gan.info.version}"
        known, entry = self._entries.get((pair, step), ("", None))
        if entry is None or known != versions:
            if entry is not None:
                self._cache.drop(entry)
            entry = Entry(name=f"{pair.psnr}+{pair.gan}:{step / STEPS:.2f}", file=None, load=_impossible)
            self._entries[pair, step] = (versions, entry)
        entry.load = partial(self._loader.blend, entry.name, psnr, gan, alpha=1 - step / STEPS)
        entry.waiting += 1
        try:
            yield entry
        finally:
            entry.waiting -= 1
            if not entry.waiting:
                entry.load = _impossible  # drop references to both source networks


def _impossible() -> Loading:
    raise LoadError("the networks that it blends are not in memory")
