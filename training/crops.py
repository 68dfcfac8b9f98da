"""The plan of a run's crops: which pictures, places and symmetries each step takes.

The crops of step k are a function of (seed, k) alone: a resumed run sees exactly what an uninterrupted one would have
seen, with no sampler state to save, and every process of a distributed run takes its share of the same draw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy
from numpy.typing import NDArray
from torch import Tensor

from training.data import DataError

Integers = NDArray[numpy.int64]
Batch = tuple[Tensor, Tensor]
"""uint8 RGB, low_res (N, 3, crop, crop) and high_res (N, 3, scale * crop, scale * crop)."""

_CROP, _DEGRADE = 1, 2
"""First number of the seeds, so that the draws of crops and of damage are independent."""


class CropSource(Protocol):
    """Yields the batch of every step, on the device."""

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """Yield the batches of a range of steps, in order."""
        ...


class RegionSource(Protocol):
    """Yields only the high-res side of every batch; low-res pictures are made from it later."""

    def regions(self, first_step: int, end_step: int) -> Iterator[Tensor]:
        """Yield uint8 RGB (N, 3, side, side) for a range of steps, in order."""
        ...


@dataclass(frozen=True)
class Places:
    """The places of the crops of one batch: arrays of N numbers."""

    picture: Integers
    top: Integers
    """In low-res pixels."""
    left: Integers
    turn: Integers
    """One of the eight symmetries of the square: bit 0 mirrors columns, bit 1 rows, bit 2 transposes."""


def refuse_unequal_shares(batch: int, processes: int) -> None:
    """Check that the processes can share a batch equally.

    Raises:
        DataError: they cannot.
    """
    if batch % processes:
        raise DataError(f"a batch of {batch} cannot be shared by {processes} processes; start {batch} or a divisor")


class CropPlan:
    """Draws the crops of every step.

    Args:
        sizes: height and width of each picture in low-res pixels, all at least `crop_px`.
        batch: crops per step, over all processes.
        share: the number of this process and how many there are; it takes every n-th crop of the batch.

    Raises:
        DataError: there are no pictures, or the batch cannot be shared.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], *, crop_px: int, batch: int, seed: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        if not sizes:
            raise DataError("no photograph of the folder can be used for training; see the lines above")
        refuse_unequal_shares(batch, share[1])
        self.crop_px = crop_px
        self._free = numpy.array(sizes, dtype=numpy.int64) - crop_px + 1
        # A photograph is drawn as often as it has places for a crop.
        places = self._free.prod(axis=1).astype(float)
        self._until = numpy.cumsum(places / places.sum())
        self._batch = batch
        self._seed = seed
        self._share = share

    def degradation_rngs(self, step: int) -> list[numpy.random.Generator]:
        """Make a random generator for each crop of this process, the same for any number of processes."""
        numbers = range(self._share[0], self._batch, self._share[1])
        return [numpy.random.default_rng((_DEGRADE, self._seed, step, number)) for number in numbers]

    def of_step(self, step: int, *, attempt: int = 0) -> Places:
        """Draw the crops that this process cuts in one step; another attempt draws others."""
        # numpy's generators, because torch's see only 32 bits of their seed.
        rng = numpy.random.default_rng((_CROP, self._seed, step, attempt))
        picture, row, column = rng.random((3, self._batch))
        turn = rng.integers(8, size=self._batch)
        picture = numpy.minimum(numpy.searchsorted(self._until, picture, side="right"), len(self._until) - 1)
        top, left = (numpy.array((row, column)) * self._free[picture].T).astype(numpy.int64)
        mine = slice(self._share[0], None, self._share[1])
        return Places(picture[mine], top[mine], left[mine], turn[mine])


def turned(picture: Tensor, turn: int) -> Tensor:
    """Apply a `turn` of `Places` to a picture (..., side, side)."""
    if turn & 1:
        picture = picture.flip(-1)
    if turn & 2:
        picture = picture.flip(-2)
    return picture.transpose(-1, -2) if turn & 4 else picture
