"""Colour shift: the distance between the colours of an output and those of its input."""

import torch
from torch import Tensor

from training.degrade import crop_to_multiple, shrink_bicubic

COARSE = 4
"""Side of the squares whose mean colours are compared, in low-res pixels."""

_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65, the white point of sRGB."""


def lab(picture: Tensor) -> Tensor:
    """CIELAB (D65) of sRGB: uint8 (3, H, W) -> float64 (3, H, W), L* in 0..100."""
    value = picture.double() / 255
    linear = torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,jhw->ihw", torch.tensor(_TO_XYZ, dtype=torch.float64), linear)
    ratio = xyz / torch.tensor(_WHITE, dtype=torch.float64)[:, None, None]
    cut = 6 / 29
    root = torch.where(ratio > cut**3, ratio.clamp(min=cut**3) ** (1 / 3), ratio / (3 * cut**2) + 4 / 29)
    x, y, z = root
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def colour_shift(upscaled: Tensor, low_res: Tensor) -> float:
    """Mean CIE 1976 colour difference between the two pictures, both low-passed; 1 is just noticeable.

    Both are reduced by bicubic to one pixel per `COARSE` x `COARSE` low-res pixels. So detail that a generator adds or
    moves does not count, but a tint does.

    Args:
        upscaled: uint8 RGB (3, scale * H, scale * W).
        low_res: uint8 RGB (3, H, W).
    """
    scale = upscaled.shape[-1] // low_res.shape[-1]
    factor = min(COARSE, *low_res.shape[-2:])
    coarse_input = shrink_bicubic(crop_to_multiple(low_res, factor), factor)
    coarse_output = shrink_bicubic(crop_to_multiple(upscaled, factor * scale), factor * scale)
    difference = lab(coarse_output) - lab(coarse_input)
    return difference.square().sum(dim=0).sqrt().mean().item()
