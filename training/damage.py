"""Kinds of uploads to measure a generator on, made from any originals."""

import hashlib
import os
from typing import Literal, get_args

import numpy
from torch import Tensor
from torch.nn import functional

from training.data import Pair
from training.degrade import shrink_bicubic
from training.kernels import gaussian_blur
from training.uploads import add_gaussian_noise, encoded, to_levels

Damage = Literal["clean", "web75", "web50", "phone", "noisy", "enlarged"]
DAMAGES: tuple[Damage, ...] = get_args(Damage)

PHONE_BLUR_PX = 2.2
"""Standard deviation in high-res pixels."""
PHONE_NOISE_LEVELS = 6.0
PHONE_QUALITY = 80

NOISY_LEVELS = 10.0
NOISY_QUALITY = ENLARGED_QUALITY = 85


def damaged(high_res: Tensor, scale: int, damage: Damage, *, name: str) -> Tensor:
    """Make the low-res picture of one kind.

    * `clean`: MATLAB's bicubic.
    * `web75`, `web50`: the same as a JPEG of quality 75 or 50, with chroma subsampling 4:2:0.
    * `phone`: Gaussian blur of 2.2 high-res px, bicubic, Gaussian noise of 6 levels, JPEG of quality 80 (4:2:0).
    * `noisy`: bicubic, Gaussian noise of 10 levels, JPEG of quality 85 (4:2:0), as photographs are at night.
    * `enlarged`: bicubic, half of that, enlarged by 2 again (bicubic), JPEG of quality 85 (4:2:0).

    Args:
        high_res: uint8 RGB (3, scale * H, scale * W).
        name: of the picture; seeds the noise.

    Returns:
        uint8 RGB (3, H, W).
    """
    if damage == "clean":
        return shrink_bicubic(high_res, scale)
    if damage == "phone":
        blurred = to_levels(gaussian_blur(high_res.float()[None], PHONE_BLUR_PX)[0])
        return _jpeg(_with_noise(shrink_bicubic(blurred, scale), PHONE_NOISE_LEVELS, name), PHONE_QUALITY)
    low_res = shrink_bicubic(high_res, scale)
    if damage == "noisy":
        return _jpeg(_with_noise(low_res, NOISY_LEVELS, name), NOISY_QUALITY)
    if damage == "enlarged":
        return _jpeg(_enlarged(low_res), ENLARGED_QUALITY)
    return _jpeg(low_res, {"web75": 75, "web50": 50}[damage])


def damaged_pair(pair: Pair, damage: Damage) -> Pair:
    """Pair the same original with a low-res picture of one kind."""
    return Pair(pair.name, damaged(pair.high_res, pair.scale, damage, name=pair.name), pair.high_res)


def _with_noise(picture: Tensor, levels: float, name: str) -> Tensor:
    rng = numpy.random.default_rng(list(hashlib.sha256(os.fsencode(name)).digest()))
    return to_levels(add_gaussian_noise(picture.float()[None], levels, rng)[0])


def _enlarged(picture: Tensor) -> Tensor:
    """Reduce uint8 (3, H, W) to half of its sides, rounded up, and enlarge the result to the same size."""
    sides = picture.shape[1:]
    half = tuple(-(-side // 2) for side in sides)
    small = functional.interpolate(picture.float()[None], half, mode="bicubic", antialias=True)
    return to_levels(functional.interpolate(to_levels(small).float(), sides, mode="bicubic")[0])


def _jpeg(picture: Tensor, quality: int) -> Tensor:
    return encoded(picture, "JPEG", quality=quality, subsampling="4:2:0")
