"""Check that an unknown network upscales a picture at all, by comparing it with bicubic interpolation."""

import numpy
from numpy.typing import NDArray
from PIL import Image

from model.golden import SelfTestError
from model.psnr import psnr_db
from model.reliable import ReliableUpscaler

SIDE_PX = 48
"""Side of the low-res test picture."""

MAX_DB = 40.0
"""Upper bound on the PSNR of bicubic interpolation, which is infinite at scale 1."""

MAX_LOSS_DB = 10.0
"""Default of ESRGAN_MAX_LOSS_DB, the dB by which a network may be below bicubic."""

FINENESS = 24
"""Minimum number of points along each side of a low-res pixel, which is their mean; a multiple of the scale is used."""

Levels = NDArray[numpy.uint8]
Points = NDArray[numpy.float64]


def refuse_far_from_bicubic(upscaler: ReliableUpscaler, max_loss_db: float) -> None:
    """Upscale a test picture whose larger version is known.

    Networks trained on damaged pictures, or with a GAN, can be some dB worse than bicubic here; networks with damaged
    weights or swapped colours are far worse.

    Raises:
        SelfTestError: its PSNR is more than `max_loss_db` below that of bicubic interpolation.
    """
    scale = upscaler.scale
    points = _points(FINENESS + -FINENESS % scale)
    low_res, high_res = _means(points, SIDE_PX), _means(points, SIDE_PX * scale)
    bicubic = Image.fromarray(low_res).resize((SIDE_PX * scale,) * 2, Image.Resampling.BICUBIC)
    bicubic_db = min(MAX_DB, psnr_db(numpy.asarray(bicubic), high_res))
    network_db = psnr_db(upscaler.upscale(low_res[None])[0], high_res)
    if network_db < bicubic_db - max_loss_db:
        raise SelfTestError(
            f"it reaches {network_db:.1f} dB on the test picture, bicubic interpolation {bicubic_db:.1f}; at most "
            f"{max_loss_db:g} dB less are accepted (ESRGAN_MAX_LOSS_DB)"
        )


def _points(fineness: int) -> Points:
    """Draw a landscape (H, W, 3): sky, sun, hill and fence; `fineness` points along each side of a low-res pixel."""
    side = SIDE_PX * fineness
    rows, columns = numpy.mgrid[:side, :side] / side
    points = numpy.stack((110 + 90 * rows, 150 + 60 * rows, 235 - 60 * rows), axis=-1)
    points[(rows - 0.25) ** 2 + (columns - 0.7) ** 2 < 0.13**2] = (250, 220, 90)
    points[rows > 0.55 + 0.12 * numpy.sin(7 * columns)] = (60, 120, 45)
    points[(rows > 0.72) & ((columns * 12) % 1 < 0.45)] = (140, 90, 60)
    points[numpy.abs(rows - 0.78 - 0.1 * columns) < 0.018] = (200, 190, 180)
    return points


def _means(points: Points, side: int) -> Levels:
    """Make a picture (side, side, 3) of points: each pixel is the mean of those that it covers."""
    covered = len(points) // side
    means = points.reshape(side, covered, side, covered, 3).mean(axis=(1, 3))
    levels: Levels = means.round().astype(numpy.uint8)
    return levels
