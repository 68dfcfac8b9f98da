"""PSNR and SSIM on the Y channel, as the literature reports them for super-resolution."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

STRIP_ROWS = 64
"""Rows that are compared at a time."""

_BELL = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
SSIM_WINDOW = _BELL / _BELL.sum()
"""Gaussian of 11 px, sigma 1.5: one dimension of the window."""


def luma(picture: Tensor) -> Tensor:
    """Y of ITU-R BT.601 as MATLAB's rgb2ycbcr rounds it.

    Args:
        picture: uint8 RGB (..., 3, H, W).

    Returns:
        float64 (..., H, W), whole numbers from 16 to 235.
    """
    red, green, blue = picture.double().unbind(dim=-3)
    return (16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255).round()


def psnr_y(picture: Tensor, reference: Tensor, *, border: int) -> float:
    """Peak signal-to-noise ratio of Y in dB (peak 255), `border` px cut from every side; inf when equal.

    Args:
        picture, reference: uint8 RGB (3, H, W).
    """
    total, count = 0.0, 0
    for a, b in _strips(picture, reference, border):
        total += float((a - b).square().sum())
        count += a.numel()
    return 10 * math.log10(255**2 * count / total) if total else math.inf


def ssim_y(picture: Tensor, reference: Tensor, *, border: int) -> float:
    """Structural similarity of Y (Wang et al. 2004): Gaussian window 11, sigma 1.5, valid positions only.

    Args:
        picture, reference: uint8 RGB (3, H, W).
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    total, count = 0.0, 0
    for a, b in _strips(picture, reference, border, overlap=len(SSIM_WINDOW) - 1):
        mean_a, mean_b, square_a, square_b, product = _smooth(torch.stack((a, b, a * a, b * b, a * b)))
        variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
        similarity = (2 * mean_a * mean_b + c1) * (2 * (product - mean_a * mean_b) + c2)
        similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
        total += float(similarity.sum())
        count += similarity.numel()
    return total / count


def _strips(picture: Tensor, reference: Tensor, border: int, *, overlap: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Y of both pictures within the border, some rows at a time, so that memory does not grow with their height.

    Each strip repeats the last `overlap` rows of the one before.
    """
    if picture.shape != reference.shape:
        raise ValueError(f"cannot compare {tuple(picture.shape)} with {tuple(reference.shape)}: the sizes differ")
    height, width = picture.shape[-2:]
    for top in range(border, height - border - overlap, STRIP_ROWS):
        rows = slice(top, min(top + STRIP_ROWS + overlap, height - border))
        inside = (..., rows, slice(border, width - border))
        yield luma(picture[inside]), luma(reference[inside])


def _smooth(values: Tensor) -> Tensor:
    """Weigh the places around each by the window: (..., H, W) -> (..., H - 10, W - 10)."""
    for dim in (-2, -1):
        size = values.shape[dim] - len(SSIM_WINDOW) + 1
        total = torch.zeros_like(values.narrow(dim, 0, size))
        for first, weight in enumerate(SSIM_WINDOW.tolist()):
            total.add_(values.narrow(dim, first, size), alpha=weight)
        values = total
    return values
