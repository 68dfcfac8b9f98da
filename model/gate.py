"""A network that nobody vouches for: does it enlarge a picture, or does it only make pixels?"""

import math

import numpy
from numpy.typing import NDArray
from PIL import Image

from model.reliable import ReliableUpscaler, SelfTestError

SIDE_PX = 48
"""Of the test picture, as the network gets it."""

MAX_DB = 40.0
"""Bicubic counts for no more than this: at scale 1 it would be the picture itself."""

FINENESS = 24
"""Points along each side of a low-res pixel that it is the mean of: a multiple of every scale."""

Levels = NDArray[numpy.uint8]


def refuse_far_from_bicubic(upscaler: ReliableUpscaler, max_loss_db: float) -> None:
    """Upscale a test picture whose larger version is known.

    Networks trained on damaged pictures, or with a GAN, may well be worse than bicubic by some dB here; one whose
    weights are damaged, or whose colours are swapped, is worse by far more.

    Raises:
        SelfTestError: its PSNR is further than that below bicubic's.
    """
    scale = upscaler.scale
    low_res, high_res = _picture(1), _picture(scale)
    bicubic = Image.fromarray(low_res).resize((SIDE_PX * scale,) * 2, Image.Resampling.BICUBIC)
    bicubic_db = min(MAX_DB, _psnr(numpy.asarray(bicubic), high_res))
    network_db = _psnr(upscaler.upscale(low_res[None])[0], high_res)
    if network_db < bicubic_db - max_loss_db:
        raise SelfTestError(
            f"it makes {network_db:.1f} dB of the test picture, where bicubic makes {bicubic_db:.1f}; more than "
            f"{max_loss_db:g} dB less is no upscaling (ESRGAN_MAX_LOSS_DB)"
        )


def _picture(scale: int) -> Levels:
    """A landscape: a sky, a sun, a hill and a fence; each pixel (H, W, 3) is the mean of the points that it covers."""
    rows, columns = numpy.mgrid[: SIDE_PX * FINENESS, : SIDE_PX * FINENESS] / (SIDE_PX * FINENESS)
    points = numpy.stack((110 + 90 * rows, 150 + 60 * rows, 235 - 60 * rows), axis=-1)
    points[(rows - 0.25) ** 2 + (columns - 0.7) ** 2 < 0.13**2] = (250, 220, 90)
    points[rows > 0.55 + 0.12 * numpy.sin(7 * columns)] = (60, 120, 45)
    points[(rows > 0.72) & ((columns * 12) % 1 < 0.45)] = (140, 90, 60)
    points[numpy.abs(rows - 0.78 - 0.1 * columns) < 0.018] = (200, 190, 180)
    at_once = FINENESS // scale
    means = points.reshape(SIDE_PX * scale, at_once, SIDE_PX * scale, at_once, 3).mean(axis=(1, 3))
    levels: Levels = means.round().astype(numpy.uint8)
    return levels


def _psnr(made: Levels, right: Levels) -> float:
    error = float(numpy.square(made.astype(float) - right).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf
