"""JPEG without the file: what encoding and decoding does to a batch, on the device of the batch.

Follows ITU-T T.81 (transform and quantisation, annexes A and K), JFIF (colours) and what libjpeg does by default:
4:2:0 chroma, quality scaled tables, and a triangle filter that enlarges the chroma again.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

# Quantisation steps of quality 50, rows are vertical frequencies: T.81 tables K.1 and K.2.
# fmt: off
_LUMINANCE_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)
_CHROMINANCE_STEPS = (
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)
# fmt: on

# JFIF: full range, here without the offset of 128 that T.81 adds to the chroma and then subtracts again.
_RGB_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
_YCBCR_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))

_BLOCK_PX = 8
_MCU_PX = 2 * _BLOCK_PX  # smallest piece of a 4:2:0 picture: four luma blocks and one block of each chroma


@lru_cache(maxsize=8)
def _block_transform(device: torch.device) -> Tensor:
    """The two-dimensional DCT-II of an 8 x 8 block as one orthonormal matrix (64, 64), float32."""
    frequency, place = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    rows = torch.cos((2 * place + 1) * frequency * math.pi / 16) / 2
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows).float().to(device)


@lru_cache(maxsize=8)
def _constant(values: tuple[object, ...], device: torch.device) -> Tensor:
    """A table as float32 on the device, moved there only once."""
    return torch.tensor(values, dtype=torch.float32).to(device)


def quantisation_steps(base: Tensor, quality: Tensor) -> Tensor:
    """The table that libjpeg makes of `base` (64,) for every quality (N,) from 1 to 100: float (N, 64), 1 to 255."""
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((base * percent[:, None] + 50) / 100).floor().clamp(1, 255)


def _quantise(planes: Tensor, steps: Tensor) -> Tensor:
    """Code planes (N, C, H, W) around zero with steps (N, 64), and decode them: what is left, -128 to 127."""
    count, channels, height, width = planes.shape
    transform = _block_transform(planes.device)
    blocks = F.pixel_unshuffle(planes, _BLOCK_PX).view(count, channels, _BLOCK_PX**2, -1)
    step = steps[:, None, :, None]
    # libjpeg's transform yields whole eighths, and halves are common among them: it rounds those away from zero.
    amplitude = (transform @ blocks * 8).round() / 8 / step
    coded = (amplitude + amplitude.sign() / 2).trunc()
    restored = (transform.T @ (coded * step)).view(count, -1, height // _BLOCK_PX, width // _BLOCK_PX)
    return F.pixel_shuffle(restored, _BLOCK_PX).round().clamp(-128, 127)


def _mix(matrix: tuple[tuple[float, ...], ...], planes: Tensor) -> Tensor:
    """Apply a matrix (3, 3) to the colours of (N, 3, H, W)."""
    return torch.einsum("ij,njhw->nihw", _constant(matrix, planes.device), planes)


def _halved(chroma: Tensor) -> Tensor:
    """Average squares of 2 x 2 px; as in libjpeg, halves are rounded down in even columns and up in odd ones."""
    means = F.avg_pool2d(chroma, 2)
    is_odd = torch.arange(means.shape[-1], device=means.device) % 2
    return (means + (1 + is_odd) / 4).floor()


def simulate_jpeg(pictures: Tensor, quality: Tensor) -> Tensor:
    """Encode and decode each picture with its own quality, by the arithmetic of libjpeg but without entropy coding.

    Args:
        pictures: float32 RGB (N, 3, H, W); clamped to [0, 1] and rounded to 8 bits, as a file holds them.
        quality: float32 (N,) of whole numbers from 1 (worst) to 100, on the same device.

    Returns:
        float32 RGB (N, 3, H, W) in [0, 1], in steps of 1 / 255. There is no gradient through the rounding.
    """
    height, width = pictures.shape[-2:]
    levels = (pictures.clamp(0, 1) * 255).round()
    padded = F.pad(levels, (0, -width % _MCU_PX, 0, -height % _MCU_PX), mode="replicate")
    y, chroma = _mix(_RGB_TO_YCBCR, padded).split([1, 2], dim=1)
    small = _halved(chroma.round())

    device = pictures.device
    y = _quantise(y.round() - 128, quantisation_steps(_constant(_LUMINANCE_STEPS, device), quality)) + 128
    small = _quantise(small, quantisation_steps(_constant(_CHROMINANCE_STEPS, device), quality))

    # The decoder forgets the padding before it enlarges: the last real sample is the border.
    small = small[..., : -(-height // 2), : -(-width // 2)]
    chroma = F.interpolate(small, scale_factor=2, mode="bilinear").round()
    ycbcr = torch.cat([y[..., :height, :width], chroma[..., :height, :width]], dim=1)
    return _mix(_YCBCR_TO_RGB, ycbcr).round().clamp(0, 255) / 255
