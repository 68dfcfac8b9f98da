"""The second-order degradation of Real-ESRGAN: what lenses, resizing, sensors and JPEG do to a picture, twice.

Wang et al. 2021, arXiv 2107.10833, section 3 and figure 2, with the ranges of the published training options. It
runs in batches on the device of the pictures. A picture has its own kernels, noise and quality; what decides the
shape of the batch (size and method of a resize, order of the last steps) is drawn once for all of them.
"""

from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor
from torch.nn import functional as F

from training.jpeg import simulate_jpeg
from training.kernels import (
    RADIUS_PX,
    BlurConfig,
    blur,
    check_probability,
    check_range,
    check_shares,
    draw_blur_kernels,
    draw_sinc_kernels,
)

_METHODS = ("area", "bilinear", "bicubic")
LEAST_PX = RADIUS_PX + 1
"""Shortest side of a low-res picture: a border can only be mirrored into a picture that is wider than it."""

_PHOTONS = 256  # in the brightest level: an 8-bit picture as a count, before `poisson_factor` strengthens its noise


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """One order of the degradation: blur, resize, noise, JPEG; the defaults are the paper's first.

    Raises:
        ValueError: a probability or a range makes no sense.
    """

    blur: BlurConfig = field(default_factory=BlurConfig)
    resize_shares: tuple[float, float, float] = (0.2, 0.7, 0.1)
    """How often a batch is enlarged, reduced, and left at its size."""
    resize_factor: tuple[float, float] = (0.15, 1.5)
    """Reduced by a factor between the first number and 1, enlarged by one between 1 and the second."""
    gaussian_probability: float = 0.5
    """How often the noise is Gaussian; the rest is Poisson noise."""
    gaussian_levels: tuple[float, float] = (1.0, 30.0)
    """Standard deviation of Gaussian noise in levels of 255."""
    poisson_factor: tuple[float, float] = (0.05, 3.0)
    """Strength of Poisson noise; 1 is that of 256 photons in the brightest level."""
    grey_probability: float = 0.4
    """How often the noise is the same in the three colours."""
    jpeg_quality: tuple[int, int] = (30, 95)

    def __post_init__(self) -> None:
        check_shares("resize_shares", self.resize_shares, 3)
        check_range("resize_factor", self.resize_factor, 0.05, 4)
        low, high = self.resize_factor
        if not low <= 1 <= high:
            raise ValueError(f"resize_factor is {low} to {high}; it must contain 1, the end of both its parts")
        check_probability("gaussian_probability", self.gaussian_probability)
        check_range("gaussian_levels", self.gaussian_levels, 0, 255)
        check_range("poisson_factor", self.poisson_factor, 0, 100)
        check_probability("grey_probability", self.grey_probability)
        check_range("jpeg_quality", self.jpeg_quality, 1, 100)


_SECOND_ORDER = OrderConfig(
    blur=BlurConfig(probability=0.8, sigma_px=(0.2, 1.5)),
    resize_shares=(0.3, 0.4, 0.3),
    resize_factor=(0.3, 1.2),
    gaussian_levels=(1.0, 25.0),
    poisson_factor=(0.05, 2.5),
)


@dataclass(frozen=True, kw_only=True)
class RealisticConfig:
    """The whole degradation; the defaults are those that Real-ESRGAN was trained with.

    Raises:
        ValueError: a probability makes no sense.
    """

    first: OrderConfig = OrderConfig()
    """Its `resize_factor` is relative to the high-res size."""
    second: OrderConfig = _SECOND_ORDER
    """Its `resize_factor` is relative to the low-res size."""
    final_sinc_probability: float = 0.8
    """How often a picture gets a last sinc filter, for the ringing of sharpened and compressed pictures."""
    jpeg_last_probability: float = 0.5
    """How often the second JPEG follows the resize to the low-res size and the last filter; else it precedes them."""

    def __post_init__(self) -> None:
        check_probability("final_sinc_probability", self.final_sinc_probability)
        check_probability("jpeg_last_probability", self.jpeg_last_probability)


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What was drawn for one order and one batch of N: numbers for all, and tensors on the device for each picture."""

    resize_factor: float
    method: str
    kernels: Tensor
    """(N, 21, 21)."""
    gaussian: Tensor
    """Standard deviation in [0, 1], zero where the noise is Poisson; like the two below (N, 1, 1, 1)."""
    poisson: Tensor
    """Strength, zero where the noise is Gaussian."""
    grey: Tensor
    """1 where the noise has no colour, else 0."""
    quality: Tensor
    """(N,)."""


def _draw_factor(config: OrderConfig, chance: numpy.random.Generator) -> float:
    low, high = config.resize_factor
    bounds = ((1.0, high), (low, 1.0), (1.0, 1.0))[chance.choice(3, p=config.resize_shares)]
    return chance.uniform(*bounds)


def _draw_order(config: OrderConfig, count: int, chance: numpy.random.Generator, device: torch.device) -> _Order:
    kernels = draw_blur_kernels(config.blur, count, chance)
    is_gaussian = chance.random(count) < config.gaussian_probability
    of_each = (
        is_gaussian * chance.uniform(*config.gaussian_levels, count) / 255,
        ~is_gaussian * chance.uniform(*config.poisson_factor, count),
        chance.random(count) < config.grey_probability,
        chance.integers(*config.jpeg_quality, count, endpoint=True),
    )
    # Without a wait for the device; nothing writes to the memory that it copies from.
    table = torch.from_numpy(numpy.stack(of_each)).float().to(device, non_blocking=True)
    gaussian, poisson, grey = table[:3, :, None, None, None]
    return _Order(
        resize_factor=_draw_factor(config, chance),
        method=str(chance.choice(_METHODS)),
        kernels=kernels.to(device, non_blocking=True),
        gaussian=gaussian,
        poisson=poisson,
        grey=grey,
        quality=table[3],
    )


def _resize(pictures: Tensor, height: int, width: int, method: str) -> Tensor:
    """To (N, 3, height, width), but never below 11 px a side, within [0, 1]; without antialiasing, as in the paper."""
    size = max(height, LEAST_PX), max(width, LEAST_PX)
    return F.interpolate(pictures, size=size, mode=method).clamp(0, 1)


def _add_noise(pictures: Tensor, order: _Order, noise: torch.Generator) -> Tensor:
    """Add each picture's own noise; `noise` is a generator on their device. Result within [0, 1]."""
    red, green, blue = pictures.split(1, dim=1)
    light = torch.where(order.grey > 0, 0.299 * red + 0.587 * green + 0.114 * blue, pictures)
    shot = torch.poisson(light * _PHOTONS, generator=noise) / _PHOTONS - light
    normal = torch.randn(pictures.shape, generator=noise, device=pictures.device)
    deviation = order.gaussian * normal + order.poisson * shot
    return (pictures + torch.where(order.grey > 0, deviation[:, :1], deviation)).clamp(0, 1)


def _capture(pictures: Tensor, order: _Order, height: int, width: int, noise: torch.Generator) -> Tensor:
    """Blur, resize by the order's factor of (height, width), and noise: what a camera does before it compresses."""
    blurred = blur(pictures, order.kernels)
    factor = order.resize_factor
    return _add_noise(_resize(blurred, int(height * factor), int(width * factor), order.method), order, noise)


def _check(high_res: Tensor, scale: int) -> None:
    if high_res.dtype != torch.float32 or high_res.dim() != 4 or high_res.shape[1] != 3:
        raise ValueError(f"high_res is {high_res.dtype} {tuple(high_res.shape)}; it must be float32 (N, 3, H, W)")
    height, width = high_res.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"{width} x {height} px cannot be reduced by exactly {scale}; crop it first")
    if min(height, width) < LEAST_PX * scale:
        raise ValueError(f"{width} x {height} px is too small; a side needs {LEAST_PX * scale} px at scale {scale}")


@torch.no_grad()
def degrade_realistically(
    high_res: Tensor, scale: int, config: RealisticConfig, chance: numpy.random.Generator
) -> Tensor:
    """Make the low-res pictures that a network learns to undo.

    Args:
        high_res: float32 RGB (N, 3, scale * H, scale * W) in [0, 1], on any device; H and W at least 11.
        scale: of the network.
        config: ranges to draw from.
        chance: source of all randomness; in an equal state it gives an equal result on the same device.

    Returns:
        float32 RGB (N, 3, H, W) in [0, 1], rounded to steps of 1 / 255, on the device of `high_res`.

    Raises:
        ValueError: `high_res` has another shape or type, does not divide by `scale`, or is too small.
    """
    _check(high_res, scale)
    count, device = len(high_res), high_res.device
    height, width = high_res.shape[-2] // scale, high_res.shape[-1] // scale
    first = _draw_order(config.first, count, chance, device)
    second = _draw_order(config.second, count, chance, device)
    final_kernels = draw_sinc_kernels(config.final_sinc_probability, count, chance).to(device, non_blocking=True)
    final_method = str(chance.choice(_METHODS))
    jpeg_is_last = chance.random() < config.jpeg_last_probability
    noise = torch.Generator(device).manual_seed(int(chance.integers(2**63)))

    def finish(pictures: Tensor) -> Tensor:
        return blur(_resize(pictures, height, width, final_method), final_kernels)

    once = simulate_jpeg(_capture(high_res, first, height * scale, width * scale, noise), first.quality)
    twice = _capture(once, second, height, width, noise)
    if jpeg_is_last:
        return simulate_jpeg(finish(twice), second.quality)
    return (finish(simulate_jpeg(twice, second.quality)).clamp(0, 1) * 255).round() / 255
