"""MATLAB's `imresize` (bicubic, antialiased): the degradation of the classical x4 benchmark.

Numbers are only comparable with published ones when low-res pictures are made by exactly this filter. It
reproduces the low-res files of Set5, Set14 and BSD100 bit for bit.
"""

from functools import lru_cache

import torch
from torch import Tensor

BICUBIC_REACH_PX = 3
"""How far from a low-res pixel, in low-res pixels, lies what it is made from."""


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5 (Keys 1981, equation 15), zero from distance 2."""
    x = distance.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x <= 2, outer, 0.0))


@lru_cache(maxsize=64)
def _resampling_matrix(size: int, factor: int, shrink: bool) -> Tensor:
    """The resize of one dimension as a float64 matrix (new size, size); a picture is mirrored at its border."""
    ratio = 1 / factor if shrink else float(factor)
    stretch = factor if shrink else 1  # antialiasing widens the kernel by the factor of reduction
    new_size = size // factor if shrink else size * factor
    taps = 4 * stretch + 2
    centre = (torch.arange(new_size, dtype=torch.float64) + 0.5) / ratio - 0.5
    first = torch.floor(centre - 2 * stretch).long()
    source = first[:, None] + torch.arange(taps)
    weights = _cubic((centre[:, None] - source) / stretch) / stretch
    weights /= weights.sum(dim=1, keepdim=True)
    mirrored = source.remainder(2 * size)
    mirrored = torch.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    return torch.zeros(new_size, size, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def _round_to_uint8(values: Tensor) -> Tensor:
    """Half away from zero, as MATLAB's uint8() does; values stay float64."""
    return (values + 0.5).floor().clamp_(0, 255)


def _resize(picture: Tensor, factor: int, *, shrink: bool) -> Tensor:
    height, width = picture.shape[-2:]
    rows = _resampling_matrix(height, factor, shrink)
    columns = _resampling_matrix(width, factor, shrink)
    # MATLAB resizes uint8 one dimension after the other, rows first, and rounds after each.
    tall = _round_to_uint8(rows @ picture.double())
    return _round_to_uint8(tall @ columns.T).to(torch.uint8)


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
