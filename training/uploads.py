"""Make low-res pictures like real uploads: from clean to blurred, noisy and compressed twice, one at a time.

The steps are those of Real-ESRGAN's second-order degradation (Wang et al. 2021, arXiv 2107.10833, section 3), with two
differences: a good share of the pictures stays clean or nearly so, and files are written and read by the real JPEG and
WebP encoders, with a grid that may begin anywhere in the picture.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.degrade import shrink_bicubic
from training.kernels import (
    RADIUS_PX,
    BlurConfig,
    blur,
    check_probability,
    check_range,
    check_shares,
    draw_blur_kernels,
    gaussian_blur,
)
from training.recolour import draw_recolouring, recolour

GRID_PX = 16
"""Side of the blocks of a file with subsampled chroma; low-res crops begin at any phase of this grid."""

MIN_SIDE_PX = RADIUS_PX + 1
"""Minimum side of a low-res picture: a mirrored border must be narrower than the picture."""

_METHODS = ("area", "bilinear", "bicubic")
_METHOD_SHARES = (0.2, 0.2, 0.6)
_ANTIALIASED_SHARE = 0.95
_SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
_WEAK_BLUR_PX = 9
"""Side of the kernels for soft noise and for unsharp masks."""


@dataclass(frozen=True, kw_only=True)
class FileConfig:
    """The file that a picture is compressed to.

    Raises:
        ValueError: a probability or a range is not valid.
    """

    probability: float = 0.8
    webp_share: float = 0.12
    """Share of WebP among the files; the others are JPEG."""
    quality: tuple[int, int] = (25, 97)
    typical_quality: int = 78
    """The quality that is drawn most often: the peak of a triangle over `quality`."""
    subsampling_shares: tuple[float, float, float] = (0.25, 0.05, 0.7)
    """Shares of 4:4:4, 4:2:2 and 4:2:0 among the JPEGs."""

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        check_probability("webp_share", self.webp_share)
        check_range("quality", self.quality, 1, 100)
        least, most = self.quality
        if not least <= self.typical_quality <= most:
            raise ValueError(
                f"typical_quality is {self.typical_quality}; it must be within quality, from {least} to {most}"
            )
        check_shares("subsampling_shares", self.subsampling_shares, len(_SUBSAMPLINGS))


@dataclass(frozen=True, kw_only=True)
class UploadConfig:
    """Ranges that an upload's damage is drawn from.

    Raises:
        ValueError: a probability or a range is not valid.
    """

    clean_share: float = 0.2
    """Share of the pictures that are reduced by MATLAB's bicubic and not damaged at all."""
    web_share: float = 0.4
    """Share of the others that are reduced in the same way and then only compressed, as most web pages do it."""
    twice_share: float = 0.15
    """Share of the damaged pictures that were compressed at another size first, then resized and compressed again."""
    twice_factor: tuple[float, float] = (0.4, 2.5)
    """Size at the first compression, relative to the low-res size; below 1, the picture was enlarged afterwards."""
    blur_probability: float = 0.3
    blur: BlurConfig = field(default_factory=lambda: BlurConfig(sinc_probability=0.06, sigma_px=(0.3, 2.8)))
    """The blur of the lens, before the reduction; in high-res pixels."""
    noise_probability: float = 0.65
    """With 35 % of 0.7 to 14 levels, skies and skin kept their grain: `training/grain.py` sees it, PSNR-Y hardly."""
    noise_levels: tuple[float, float] = (2.0, 16.0)
    """Standard deviation of the noise in levels of 255; small ones are drawn more often (evenly in the logarithm)."""
    grey_probability: float = 0.35
    """Share of the noise that is the same in the three colours."""
    soft_probability: float = 0.3
    """Share of the noise that is blurred, as demosaicking and noise reduction in cameras leave it."""
    sharpen_probability: float = 0.1
    sharpen_amount: tuple[float, float] = (0.2, 1.0)
    """Strength of the unsharp mask that cameras and web services apply after the reduction."""
    file: FileConfig = FileConfig()
    recolour_probability: float = 0.25
    """Share of the high-res pictures that get other colours first; see `training.recolour`."""

    def __post_init__(self) -> None:
        for name in ("clean_share", "web_share", "twice_share"):
            check_probability(name, getattr(self, name))
        for name in ("blur", "noise", "grey", "soft", "sharpen", "recolour"):
            check_probability(f"{name}_probability", getattr(self, f"{name}_probability"))
        check_range("twice_factor", self.twice_factor, 0.25, 4)
        check_range("noise_levels", self.noise_levels, 0.1, 255)
        check_range("sharpen_amount", self.sharpen_amount, 0, 5)


def degrade_upload(high_res: Tensor, scale: int, config: UploadConfig, rng: numpy.random.Generator) -> Tensor:
    """Create a low-res picture of a high-res one, as users might upload it.

    Args:
        high_res: uint8 RGB (3, scale * H, scale * W) on the CPU; H and W at least `MIN_SIDE_PX`.
        rng: source of all randomness; in an equal state it gives an equal result.

    Returns:
        uint8 RGB (3, H, W).

    Raises:
        ValueError: `high_res` has another shape or type, does not divide by `scale`, or is too small.
    """
    return _degraded(high_res, scale, config, rng)[0]


def _degraded(high_res: Tensor, scale: int, config: UploadConfig, rng: numpy.random.Generator) -> tuple[Tensor, float]:
    """Do what `degrade_upload` does; returns the variance of the added noise, too."""
    _check(high_res, scale)
    if rng.random() < config.clean_share:
        return shrink_bicubic(high_res, scale), 0.0
    if rng.random() < config.web_share:
        return to_levels(_compress(shrink_bicubic(high_res, scale).float()[None], config.file, rng))[0], 0.0
    height, width = (side // scale for side in high_res.shape[1:])
    picture, earlier = high_res.float()[None], 0.0
    if rng.random() < config.blur_probability:
        picture = blur(picture, draw_blur_kernels(config.blur, 1, rng))
    if rng.random() < config.twice_share:
        factor = rng.uniform(*config.twice_factor)
        first_height, first_width = (max(MIN_SIDE_PX, round(side * factor)) for side in (height, width))
        picture = _resize(picture, first_height, first_width, rng)
        picture, earlier = _add_noise(picture, config, rng)
        picture = _compress(picture, config.file, rng)
    picture = _sharpen(_resize(picture, height, width, rng), config, rng)
    picture, variance = _add_noise(picture, config, rng)
    if rng.random() < config.file.probability:
        picture = _compress(picture, config.file, rng)
    return to_levels(picture)[0], earlier + variance


def degrade_crops(
    regions: Sequence[Tensor], crop_px: int, scale: int, config: UploadConfig, rngs: Sequence[numpy.random.Generator]
) -> tuple[Tensor, Tensor]:
    """Damage regions that are `GRID_PX` larger than a crop, and cut the crop at a drawn place.

    So the grid of a file has any phase in the crop, as in parts of a picture.

    Args:
        regions: uint8 RGB (3, S, S) with S = scale * (crop_px + GRID_PX).
        rngs: one for each region.

    Returns:
        uint8 RGB, low_res (N, 3, crop_px, crop_px) and high_res (N, 3, scale * crop_px, scale * crop_px), those with
        the least noise first.
    """
    crops = [_degraded_crop(*each, crop_px, scale, config) for each in zip(regions, rngs, strict=True)]
    low_res, high_res, _ = zip(*sorted(crops, key=lambda crop: crop[2]), strict=True)
    return torch.stack(low_res), torch.stack(high_res)


def _degraded_crop(
    region: Tensor, rng: numpy.random.Generator, crop_px: int, scale: int, config: UploadConfig
) -> tuple[Tensor, Tensor, float]:
    """Return the two crops, and the variance of the noise."""
    if rng.random() < config.recolour_probability:
        region = recolour(region, *draw_recolouring(rng))
    low_res, noise = _degraded(region, scale, config, rng)
    top, left = rng.integers(GRID_PX, size=2, endpoint=True).tolist()
    rows, columns = (slice(first * scale, (first + crop_px) * scale) for first in (top, left))
    return low_res[:, top : top + crop_px, left : left + crop_px], region[:, rows, columns], noise


def encoded(picture: Tensor, file_format: str, **options: object) -> Tensor:
    """Write a picture to a file and read it again: uint8 RGB (3, H, W) -> the same shape.

    Args:
        file_format: `JPEG` or `WEBP`.
        options: of Pillow's encoder, such as `quality`.
    """
    file = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, file_format, **options)
    with Image.open(file) as image:
        return torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)


def add_gaussian_noise(picture: Tensor, levels: float, rng: numpy.random.Generator, *, channels: int = 3) -> Tensor:
    """Add noise to float (N, 3, H, W); with one channel it is the same in the three colours."""
    shape = (len(picture), channels, *picture.shape[2:])
    return picture + torch.from_numpy(rng.standard_normal(shape, dtype=numpy.float32)) * levels


def _check(high_res: Tensor, scale: int) -> None:
    if high_res.dtype != torch.uint8 or high_res.dim() != 3 or high_res.shape[0] != 3:
        raise ValueError(f"high_res is {high_res.dtype} {tuple(high_res.shape)}; it must be uint8 (3, H, W)")
    height, width = high_res.shape[1:]
    if height % scale or width % scale:
        raise ValueError(f"{width} x {height} px cannot be reduced by exactly {scale}; crop it first")
    if min(height, width) < MIN_SIDE_PX * scale:
        raise ValueError(f"{width} x {height} px is too small; a side needs {MIN_SIDE_PX * scale} px at scale {scale}")


def to_levels(picture: Tensor) -> Tensor:
    """Float levels (N, 3, H, W) -> uint8, rounded, as a file holds them."""
    return picture.round().clamp(0, 255).to(torch.uint8)


def _resize(picture: Tensor, height: int, width: int, rng: numpy.random.Generator) -> Tensor:
    """Resize float (1, 3, H, W) by a drawn method; without antialiasing at times, as browsers and old phones do it."""
    if picture.shape[2:] == (height, width):
        return picture
    method = str(rng.choice(_METHODS, p=_METHOD_SHARES))
    antialias = method != "area" and rng.random() < _ANTIALIASED_SHARE
    return functional.interpolate(picture, size=(height, width), mode=method, antialias=antialias)


def _add_noise(picture: Tensor, config: UploadConfig, rng: numpy.random.Generator) -> tuple[Tensor, float]:
    """Add noise of a sensor at times, whose strength may grow with the light, to float levels (1, 3, H, W).

    Returns:
        The picture, and the variance that was drawn: 0 for no noise.
    """
    if rng.random() >= config.noise_probability:
        return picture, 0.0
    levels = float(numpy.exp(rng.uniform(*numpy.log(config.noise_levels))))
    channels = 1 if rng.random() < config.grey_probability else 3
    noise = add_gaussian_noise(torch.zeros_like(picture), levels, rng, channels=channels)
    if rng.random() < config.soft_probability:
        noise = gaussian_blur(noise, rng.uniform(0.4, 1.0), _WEAK_BLUR_PX)
    if rng.random() < 0.5:  # shot noise: its variance is proportional to the light
        noise = noise * (picture.clamp(0, 255) / 128).sqrt()
    return picture + noise, levels**2


def _sharpen(picture: Tensor, config: UploadConfig, rng: numpy.random.Generator) -> Tensor:
    """Apply an unsharp mask at times."""
    if rng.random() >= config.sharpen_probability:
        return picture
    amount = rng.uniform(*config.sharpen_amount)
    return picture + amount * (picture - gaussian_blur(picture, rng.uniform(0.5, 1.5), _WEAK_BLUR_PX))


def _compress(picture: Tensor, config: FileConfig, rng: numpy.random.Generator) -> Tensor:
    """Encode and decode float levels (1, 3, H, W) by the real encoders."""
    least, most = config.quality
    quality = round(rng.triangular(least, config.typical_quality, most)) if least < most else most
    if rng.random() < config.webp_share:
        return encoded(to_levels(picture)[0], "WEBP", quality=quality, method=2)[None].float()
    subsampling = str(rng.choice(_SUBSAMPLINGS, p=config.subsampling_shares))
    return encoded(to_levels(picture)[0], "JPEG", quality=quality, subsampling=subsampling)[None].float()
