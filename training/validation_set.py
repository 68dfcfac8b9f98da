"""The pictures that a run is measured on, in memory if they fit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from torch import Tensor

from training.damage import Damage, damaged_pair
from training.data import DataError, Pair, Pairs
from training.evaluate import min_measured_px
from training.pairs import PairFiles, read_pair, read_pair_size
from training.validation import middle

MAX_BYTES = 2**31
"""Decoded pictures that are kept; the others are read again for each measurement."""

MEASURED_PX = 256
"""Maximum height and width of the measured middle of a picture, in low-res pixels. A short run on photographs of a
camera would spend more time on measuring whole ones than on training."""


def is_measurable(files: PairFiles, scale: int) -> bool:
    """Check by the headers of a pair that it is large enough to be measured, and that its sizes fit."""
    try:
        read_pair_size(files, scale, min_px=min_measured_px(scale))
    except DataError:
        return False
    return True


def validation_set(
    files: Iterable[PairFiles],
    scale: int,
    kinds: Sequence[Damage],
    report: Callable[[str], None],
    *,
    max_bytes: int = MAX_BYTES,
) -> dict[Damage, Pairs]:
    """Read the pictures to measure on, once for each kind of upload.

    Args:
        kinds: `clean` is the low-res picture that the pair has; others are made from the original.
        report: takes a line for each picture that cannot be used.
        max_bytes: memory for decoded pictures.
    """
    originals = _Originals(scale, max_bytes)
    for one in files:
        try:
            originals.add(one)
        except DataError as error:
            report(f"left out: {error}")
    return {damage: _Damaged(originals, damage) for damage in kinds if len(originals)}


class _Originals:
    """Pairs of files; those that do not fit into memory are read at each access."""

    def __init__(self, scale: int, max_bytes: int) -> None:
        self._scale = scale
        self._left_bytes = max_bytes
        self._files: list[PairFiles] = []
        self._kept: dict[int, Pair] = {}

    def add(self, files: PairFiles) -> None:
        """Read a pair and keep it, if it fits; raises `DataError` if it cannot be used."""
        pair = self._read(files)
        if self.reserve(pair.high_res.numel() + pair.low_res.numel()):
            self._kept[len(self._files)] = pair
        self._files.append(files)

    def reserve(self, size: int) -> bool:
        """Reserve this many bytes of the remaining memory; returns False if they do not fit."""
        fits = size <= self._left_bytes
        self._left_bytes -= size if fits else 0
        return fits

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Pair:
        if number in self._kept:
            return self._kept[number]
        try:
            return self._read(self._files[number])
        except DataError:  # a network folder may be back at once
            return self._read(self._files[number])

    def _read(self, files: PairFiles) -> Pair:
        return middle(read_pair(files, self._scale, min_px=min_measured_px(self._scale)), MEASURED_PX)


class _Damaged:
    """The same originals with low-res pictures of one kind, each made once if it fits into memory."""

    def __init__(self, originals: _Originals, damage: Damage) -> None:
        self._originals = originals
        self._damage = damage
        self._low_res: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._originals)

    def __getitem__(self, number: int) -> Pair:
        original = self._originals[number]
        if self._damage == "clean":
            return original
        if number in self._low_res:
            return replace(original, low_res=self._low_res[number])
        pair = damaged_pair(original, self._damage)
        if self._originals.reserve(pair.low_res.numel()):
            self._low_res[number] = pair.low_res
        return pair
