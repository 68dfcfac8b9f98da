"""Measure the grid and the reach of a network of unknown structure, for its tiles.

Networks with window attention split a picture into windows from its upper left corner on, so a tile has the pixels of
the whole picture only if it begins at a window. A weight file contains neither the size of the windows nor the distance
over which pixels depend on each other, so both are measured on a small picture.
"""

from collections.abc import Callable
from math import lcm

import torch
from torch import Tensor, nn

Net = Callable[[Tensor], Tensor]

TOLERANCE = 0.5 / 255
"""Largest difference that counts as equal; tests allow four times as much for whole pictures."""

ROUNDING = 0.02 / 255
"""Largest difference far from a cut that counts as equal: far more than rounding in float32, far less than a grid."""

REACH_PX = 128
"""Maximum margin; networks that see further are tiled with this one."""

CUT_PX = 64
"""Length of the part that is cut off, rounded up to whole windows."""

ROWS = 24
"""Height of the test picture, whose length is `CUT_PX + REACH_PX + CUT_PX`."""

COMPARED_PX = 64
"""Length of the far end that is compared."""

PERIODS_PX = (48, 64, 56, 40, 36, 60, 44, 52)
"""Candidates for the period; each covers its divisors, so together they cover all usual sizes of windows."""

PRIMES = (2, 3, 5, 7, 11, 13)


class Probe:
    """Compares a network's output for a long, low picture with that for parts of it.

    Args:
        net: float RGB (N, 3, H, W) -> (N, 3, scale * H, scale * W), both in [0, 1]; for any H and W.
        multiple: the network itself pads the sides of pictures to a multiple of this.
        min_px: minimum side of a picture.
    """

    def __init__(self, net: Net, scale: int, *, multiple: int = 1, min_px: int = 1) -> None:
        self._net, self._scale, self._multiple = net, scale, multiple
        length = 2 * CUT_PX + REACH_PX
        long = _picture(max(ROWS, min_px), length + -length % multiple)
        self._pictures = {3: long, 2: long.transpose(2, 3).contiguous()}
        self._whole: dict[int, Tensor] = {}

    @torch.inference_mode()
    def period_px(self) -> int:
        """Find the period of the grid: cutting off that many px changes nothing at the far end.

        It is 1 px for a network without a grid. For a network that sees the whole picture, by attention between all
        pixels or by a mean over them, every cut changes the rest; for it, the period that changes least is returned.
        Example: with windows of 8 px, cutting 48, 24 or 8 px changes nothing, and 12 does, so the period is 8.
        """
        if self._change_by_cutting(1) <= ROUNDING:
            return self._multiple
        period, change = 1, float("inf")
        for tried in PERIODS_PX:
            if (found := self._change_by_cutting(tried)) < change:
                period, change = tried, found
            if change <= ROUNDING:
                break
        for prime in PRIMES:
            while period % prime == 0 and (found := self._change_by_cutting(period // prime)) <= max(change, ROUNDING):
                period, change = period // prime, found
        return lcm(period, self._multiple)

    @torch.inference_mode()
    def margin_px(self, period_px: int) -> int:
        """Count the px next to a cut on the grid that differ from the whole picture; at most `REACH_PX`."""
        return min(REACH_PX, max(self._cut(axis, period_px) for axis in self._pictures))

    def _change_by_cutting(self, px: int) -> float:
        """Measure the change at the far end if the beginning of the picture is cut off, along either axis.

        The end is included, because networks pad pictures there to whole windows, counted from the beginning.
        """
        change = 0.0
        for axis, picture in self._pictures.items():
            part = self._net(picture.narrow(axis, px, picture.shape[axis] - px))
            compared = COMPARED_PX * self._scale
            ends = (made.narrow(axis, made.shape[axis] - compared, compared) for made in (part, self._uncut(axis)))
            change = max(change, float(torch.sub(*ends).abs().max()))
            if change > ROUNDING:
                break
        return change

    def _cut(self, axis: int, period_px: int) -> int:
        """Measure the reach of a cut at either end of an axis, and return the larger one."""
        picture, whole, length = self._pictures[axis], self._uncut(axis), self._pictures[axis].shape[axis]
        first = CUT_PX + -CUT_PX % period_px
        end = (length - CUT_PX) // period_px * period_px
        reaches = [0]
        for start, stop in ((first, length), (0, end)):
            part = self._net(picture.narrow(axis, start, stop - start))
            change = (part - whole.narrow(axis, start * self._scale, (stop - start) * self._scale)).abs()
            far = (change.amax(dim=tuple({0, 1, 2, 3} - {axis})) > TOLERANCE).nonzero() // self._scale
            if len(far):
                reaches.append(int(far.max()) + 1 if start else stop - int(far.min()))
        return max(reaches)

    def _uncut(self, axis: int) -> Tensor:
        if axis not in self._whole:
            self._whole[axis] = self._net(self._pictures[axis])
        return self._whole[axis]


def _picture(rows: int, length: int) -> Tensor:
    """Create a picture of columns of noise and of smooth noise: float RGB (1, 3, rows, length)."""
    chance = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, rows, length, generator=chance)
    smooth = nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False) * 3 - 1
    return torch.where(torch.rand(1, 1, 1, length, generator=chance) < 0.5, noise, smooth).clamp(0, 1)
