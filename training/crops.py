"""Where the crops of each step lie, and how they are cut on the device from photographs that lie there decoded.

The crops of step k are a function of (seed, k) alone: a resumed run sees exactly what an uninterrupted one would have
seen, with no sampler state to save, and every process of a distributed run takes its share of the same draw.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import DataError, Pair

Integers = NDArray[numpy.int64]
Batch = tuple[Tensor, Tensor]
"""uint8 RGB, low_res (N, 3, crop, crop) and high_res (N, 3, scale * crop, scale * crop)."""

_CROP, _DEGRADE = 1, 2
"""First number of the seeds, so that one draw never repeats the other."""


class CropSource(Protocol):
    """Gives the batch of every step, on the device."""

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """The batches of a range of steps, in order."""
        ...


@dataclass(frozen=True)
class Places:
    """Where the crops of one batch lie: arrays of N numbers."""

    picture: Integers
    top: Integers
    """In low-res pixels."""
    left: Integers
    turn: Integers
    """One of the eight symmetries of the square: bit 0 mirrors columns, bit 1 rows, bit 2 exchanges the two."""


class CropPlan:
    """Draws the crops of every step.

    Args:
        sizes: height and width of each picture in low-res pixels, none of them less than `crop_px`.
        batch: crops per step, over all processes.
        share: the number of this process and how many there are; it takes every so many crops of the batch.

    Raises:
        DataError: there is no picture, or the batch cannot be shared.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], *, crop_px: int, batch: int, seed: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        if not sizes:
            raise DataError("no photograph of the folder can be used for training; see the lines above")
        if batch % share[1]:
            raise DataError(f"a batch of {batch} cannot be shared by {share[1]} processes; start {batch} or a divisor")
        self.crop_px = crop_px
        self._free = numpy.array(sizes, dtype=numpy.int64) - crop_px + 1
        # A photograph is drawn as often as it has places for a crop.
        places = self._free.prod(axis=1).astype(float)
        self._until = numpy.cumsum(places / places.sum())
        self._batch = batch
        self._seed = seed
        self._share = share

    def degradation_rngs(self, step: int) -> list[numpy.random.Generator]:
        """A source of randomness for each crop of this process, however many processes there are."""
        numbers = range(self._share[0], self._batch, self._share[1])
        return [numpy.random.default_rng((_DEGRADE, self._seed, step, number)) for number in numbers]

    def of_step(self, step: int, *, attempt: int = 0) -> Places:
        """The crops that this process cuts in one step; another attempt draws others."""
        # numpy's generators, because torch's see only 32 bits of their seed.
        chance = numpy.random.default_rng((_CROP, self._seed, step, attempt))
        picture, row, column = chance.random((3, self._batch))
        turn = chance.integers(8, size=self._batch)
        picture = numpy.minimum(numpy.searchsorted(self._until, picture, side="right"), len(self._until) - 1)
        top, left = (numpy.array((row, column)) * self._free[picture].T).astype(numpy.int64)
        mine = slice(self._share[0], None, self._share[1])
        return Places(picture[mine], top[mine], left[mine], turn[mine])


class DecodedPhotographs:
    """Photographs that lie decoded on the device; crops are cut there, so that no loader stands in the way."""

    def __init__(self, pairs: Sequence[Pair], plan: CropPlan, *, scale: int, device: torch.device) -> None:
        self._plan = plan
        self._scale = scale
        self._low_res = _Canvas([pair.low_res for pair in pairs], device)
        self._high_res = _Canvas([pair.high_res for pair in pairs], device)

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """The batches of a range of steps, in order."""
        for step in range(first_step, end_step):
            places = self._plan.of_step(step)
            side = self._plan.crop_px
            yield self._low_res.cut(places, 1, side), self._high_res.cut(places, self._scale, side * self._scale)


class _Canvas:
    """Pictures of any sizes as one long row of pixels, so that a whole batch of crops is one gather."""

    def __init__(self, pictures: Iterable[Tensor], device: torch.device) -> None:
        pictures = list(pictures)
        self._pixels = torch.cat([picture.permute(1, 2, 0).reshape(-1, 3) for picture in pictures]).to(device)
        areas = [picture.shape[1] * picture.shape[2] for picture in pictures]
        self._first = numpy.cumsum([0, *areas[:-1]])
        self._widths = numpy.array([picture.shape[2] for picture in pictures])

    def cut(self, places: Places, factor: int, side: int) -> Tensor:
        """Crops (N, 3, side, side) at `factor` times the places, turned; channels last in memory."""
        width = self._widths[places.picture]
        first = self._first[places.picture] + (places.top * width + places.left) * factor
        numbers = torch.from_numpy(numpy.stack((first, width, places.turn))).to(self._pixels.device, non_blocking=True)
        first_px, width_px, turn = numbers[:, :, None, None]
        line = torch.arange(side, device=self._pixels.device)
        rows, columns = line[None, :, None], line[None, None, :]
        exchanged = (turn & 4).bool()
        rows, columns = torch.where(exchanged, columns, rows), torch.where(exchanged, rows, columns)
        rows = torch.where((turn & 2).bool(), side - 1 - rows, rows)
        columns = torch.where((turn & 1).bool(), side - 1 - columns, columns)
        return self._pixels[first_px + rows * width_px + columns].permute(0, 3, 1, 2)


def turned(picture: Tensor, turn: int) -> Tensor:
    """A picture (..., side, side) as `turn` of `Places` says."""
    if turn & 1:
        picture = picture.flip(-1)
    if turn & 2:
        picture = picture.flip(-2)
    return picture.transpose(-1, -2) if turn & 4 else picture
