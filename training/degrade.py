"""MATLAB's `imresize` (bicubic, antialiased): the degradation of the classical x4 benchmark.

Numbers are only comparable with published ones when low-res pictures are made by exactly this filter. It
reproduces the low-res files of Set5, Set14 and BSD100 bit for bit.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

STRIP_ROWS = 32
"""Rows that are made at a time, so that their source stays in the processor's cache."""

BICUBIC_REACH_PX = 3
"""A low-res pixel depends on the picture up to this distance, in low-res pixels."""


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5 (Keys 1981, equation 15), zero from distance 2."""
    x = distance.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x <= 2, outer, 0.0))


@dataclass(frozen=True)
class _Taps:
    """The resize of one dimension: the source pixels of each result pixel, and their weights.

    Every `phases`-th pixel of the result has the same weights; between two of them the source moves by `stride` px.
    """

    first: tuple[int, ...]
    """The first source pixel of the first result pixel, by phase."""
    weights: tuple[tuple[float, ...], ...]
    """Weights by phase, in the order of the source pixels."""
    stride: int
    exact: torch.dtype
    """The smallest number format in which no sum of levels times weights is rounded; float64 if there is none."""


@lru_cache(maxsize=16)
def _taps(factor: int, shrink: bool) -> _Taps:
    ratio = 1 / factor if shrink else float(factor)
    stretch = factor if shrink else 1  # antialiasing widens the kernel by the factor of reduction
    phases = 1 if shrink else factor
    centre = (torch.arange(phases, dtype=torch.float64) + 0.5) / ratio - 0.5
    first = torch.floor(centre - 2 * stretch).long()
    source = first[:, None] + torch.arange(4 * stretch + 2)
    weights = _cubic((centre[:, None] - source) / stretch) / stretch
    weights /= weights.sum(dim=1, keepdim=True)
    steps = weights * 2**14  # whole if float32, with its 24 bits, holds every sum of weights times levels
    exact = torch.float32 if torch.equal(steps, steps.round()) else torch.float64
    return _Taps(tuple(first.tolist()), tuple(map(tuple, weights.tolist())), factor if shrink else 1, exact)


def _resized_rows(levels: Tensor, factor: int, *, shrink: bool) -> Tensor:
    """Resize uint8 (..., H, W) in height alone; the picture is mirrored at its border.

    MATLAB resizes uint8 one dimension after the other, rows first, and rounds after each.
    """
    taps, size = _taps(factor, shrink), levels.shape[-2]
    count = size // taps.stride  # of rows for each phase
    phases = levels.new_empty((*levels.shape[:-2], count, len(taps.first), levels.shape[-1]))
    for top in range(0, count, STRIP_ROWS):
        end = min(top + STRIP_ROWS, count)
        for phase, (first, weights) in enumerate(zip(taps.first, taps.weights, strict=True)):
            seen = torch.arange(first + top * taps.stride, first + (end - 1) * taps.stride + len(weights))
            seen = seen.remainder(2 * size)
            values = levels.index_select(-2, torch.where(seen < size, seen, 2 * size - 1 - seen)).to(taps.exact)
            total = values.new_zeros((*levels.shape[:-2], end - top, levels.shape[-1]))
            for place, weight in enumerate(weights):
                if weight:
                    rows = slice(place, place + (end - top - 1) * taps.stride + 1, taps.stride)
                    total.add_(values[..., rows, :], alpha=weight)
            phases[..., top:end, phase, :] = _round_to_uint8(total)
    return phases.flatten(-3, -2)


def _round_to_uint8(values: Tensor) -> Tensor:
    """Round half away from zero, as MATLAB's uint8() does."""
    return values.add(0.5).floor_().clamp_(0, 255).to(torch.uint8)


def _resize(picture: Tensor, factor: int, *, shrink: bool) -> Tensor:
    tall = _resized_rows(picture, factor, shrink=shrink)
    # A copy, so that the additions run along memory.
    return _resized_rows(tall.mT.contiguous(), factor, shrink=shrink).mT.contiguous()


def shrink_bicubic(picture: Tensor, factor: int) -> Tensor:
    """uint8 (..., H, W) -> uint8 (..., H / factor, W / factor).

    Raises:
        ValueError: H or W is not a multiple of `factor`; `crop_to_multiple` makes it one.
    """
    height, width = picture.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"a picture of {width} x {height} px cannot be reduced by exactly {factor}; crop it first")
    return _resize(picture, factor, shrink=True)


def enlarge_bicubic(picture: Tensor, factor: int) -> Tensor:
    """uint8 (..., H, W) -> uint8 (..., factor * H, factor * W); the baseline every generator must beat."""
    return _resize(picture, factor, shrink=False)


def crop_to_multiple(picture: Tensor, factor: int) -> Tensor:
    """Drop rows below and columns at the right until both sizes divide by `factor`."""
    height, width = picture.shape[-2:]
    return picture[..., : height - height % factor, : width - width % factor]
