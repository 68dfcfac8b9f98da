"""Blur kernels of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833, section 3.2), drawn for a whole batch at once.

Every kernel is centred in a square of 21 px, sums to 1, and is symmetric about its centre, so that it moves nothing.
"""

import math
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor
from torch.nn import functional as F

KERNEL_PX = 21
RADIUS_PX = KERNEL_PX // 2

_SIZES_PX = numpy.arange(7, KERNEL_PX + 1, 2)
_SHARES_OF_FAMILIES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)


def check_range(name: str, limits: tuple[float, float], least: float, most: float) -> None:
    """Refuse a range of a config that is empty or out of bounds.

    Raises:
        ValueError: not `least <= low <= high <= most`.
    """
    low, high = limits
    if not least <= low <= high <= most:
        raise ValueError(f"{name} is {low} to {high}; it must rise and stay within {least} to {most}")


def check_probability(name: str, value: float) -> None:
    """Refuse a value that is not a probability.

    Raises:
        ValueError: `value` is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; a probability lies in [0, 1]")


def check_shares(name: str, shares: tuple[float, ...], count: int) -> None:
    """Refuse shares of alternatives that do not sum to 1.

    Raises:
        ValueError: not `count` numbers, one of them negative, or their sum is not 1.
    """
    if len(shares) != count or not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1):
        raise ValueError(f"{name} is {shares}; it must be {count} shares, none negative, with a sum of 1")


@dataclass(frozen=True, kw_only=True)
class BlurConfig:
    """Ranges that blur kernels are drawn from; the defaults are those of the paper's first blur.

    Raises:
        ValueError: a probability or a range is not valid.
    """

    probability: float = 1.0
    """Share of the pictures that are blurred."""
    sinc_probability: float = 0.1
    """Share of the blurs that are sinc filters (ringing) instead of one of the six families below."""
    family_shares: tuple[float, ...] = _SHARES_OF_FAMILIES
    """Shares of Gaussian, generalised Gaussian and plateau kernels; for each, isotropic then anisotropic."""
    sigma_px: tuple[float, float] = (0.2, 3.0)
    """Standard deviation along each axis of the kernel."""
    gaussian_beta: tuple[float, float] = (0.5, 4.0)
    """Shape of the generalised Gaussian: below 1 pointed with long tails, above 1 flat with a steep edge."""
    plateau_beta: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        check_probability("sinc_probability", self.sinc_probability)
        check_shares("family_shares", self.family_shares, len(_SHARES_OF_FAMILIES))
        check_range("sigma_px", self.sigma_px, 0.01, KERNEL_PX)
        for name in ("gaussian_beta", "plateau_beta"):
            low, high = getattr(self, name)
            check_range(name, (low, high), 0.1, 10)
            if not low <= 1 <= high:
                raise ValueError(f"{name} is {low} to {high}; it must contain 1, on whose two sides it is drawn")


def _normalised(values: Tensor, size_px: Tensor) -> Tensor:
    """Cut (N, 21, 21) to the middle squares of `size_px` (N,) and make each sum to 1."""
    offset = torch.arange(-RADIUS_PX, RADIUS_PX + 1).abs()
    ring = torch.maximum(offset[:, None], offset)
    inside = torch.where(ring <= size_px[:, None, None] // 2, values, 0.0)
    return inside / inside.sum(dim=(1, 2), keepdim=True)


def _squared_distance(sigma_px: Tensor, angle: Tensor) -> Tensor:
    """Squared Mahalanobis distance from the centre, (N, 21, 21): x^T S^-1 x with S turned by `angle`."""
    offset = torch.arange(-RADIUS_PX, RADIUS_PX + 1, dtype=torch.float64)
    y, x = offset[:, None], offset
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = sigma_px[:, 0, None, None], sigma_px[:, 1, None, None]
    squared: Tensor = ((x * cosine + y * sine) / along).square() + ((y * cosine - x * sine) / across).square()
    return squared


def gaussian_kernels(sigma_px: Tensor, angle: Tensor, beta: Tensor, size_px: Tensor) -> Tensor:
    """Generalised Gaussians exp(-(x^T S^-1 x)^beta / 2); with beta = 1 the usual ones (the paper's equation 2).

    Args:
        sigma_px: float64 (N, 2), along the axis at `angle` and across it.
        angle: float64 (N,), radians, from the direction of x towards that of y (down).
        beta: float64 (N,).
        size_px: int64 (N,), odd, at most 21; outside of it a kernel is zero.

    Returns:
        float64 (N, 21, 21).
    """
    return _normalised(torch.exp(-0.5 * _squared_distance(sigma_px, angle) ** beta[:, None, None]), size_px)


def plateau_kernels(sigma_px: Tensor, angle: Tensor, beta: Tensor, size_px: Tensor) -> Tensor:
    """Plateau kernels 1 / (1 + (x^T S^-1 x)^beta); arguments and result as in `gaussian_kernels`."""
    return _normalised(1 / (1 + _squared_distance(sigma_px, angle) ** beta[:, None, None]), size_px)


def sinc_kernels(cutoff: Tensor, size_px: Tensor) -> Tensor:
    """Circular low-pass filters w J1(w r) / (2 pi r), which ring next to edges (the paper's equation 6).

    Args:
        cutoff: float64 (N,), w: the highest frequency that passes, in radians per px; pi is the highest there is.
        size_px: int64 (N,), odd, at most 21; outside of it a kernel is zero.

    Returns:
        float64 (N, 21, 21).
    """
    offset = torch.arange(-RADIUS_PX, RADIUS_PX + 1, dtype=torch.float64)
    radius = torch.hypot(offset[:, None], offset)
    radius[RADIUS_PX, RADIUS_PX] = 1e-6  # J1(z) tends to z / 2: the limit at the centre, w^2 / (4 pi), without 0 / 0
    w = cutoff[:, None, None]
    return _normalised(w * torch.special.bessel_j1(w * radius) / (2 * math.pi * radius), size_px)


def _pulses_where(skipped: numpy.ndarray, kernels: Tensor) -> Tensor:
    """Replace skipped kernels by the identity kernel, and convert to float32."""
    pulse = torch.zeros(KERNEL_PX, KERNEL_PX, dtype=torch.float64)
    pulse[RADIUS_PX, RADIUS_PX] = 1
    return torch.where(torch.from_numpy(skipped)[:, None, None], pulse, kernels).float()


def _draw_beta(limits: tuple[float, float], count: int, chance: numpy.random.Generator) -> Tensor:
    """Draw half of the betas below 1 and half above, whatever the lengths of the two ranges are."""
    low, high = limits
    is_below = chance.random(count) < 0.5
    return torch.from_numpy(chance.uniform(numpy.where(is_below, low, 1), numpy.where(is_below, 1, high)))


def draw_blur_kernels(config: BlurConfig, count: int, chance: numpy.random.Generator) -> Tensor:
    """One blur kernel for each of `count` pictures: float32 (count, 21, 21) on the CPU."""
    size_px = chance.choice(_SIZES_PX, count)
    family, is_anisotropic = numpy.divmod(chance.choice(len(config.family_shares), count, p=config.family_shares), 2)
    sigma = chance.uniform(*config.sigma_px, (count, 2))
    sigma[:, 1] = numpy.where(is_anisotropic, sigma[:, 1], sigma[:, 0])
    # A small kernel cannot hold the wide waves of a low cut-off.
    cutoff = chance.uniform(numpy.where(size_px < 13, math.pi / 3, math.pi / 5), math.pi)
    is_sinc = chance.random(count) < config.sinc_probability
    is_skipped = chance.random(count) >= config.probability

    sizes, kind = torch.from_numpy(size_px), torch.from_numpy(numpy.where(is_sinc, 3, family))
    shape = torch.from_numpy(sigma), torch.from_numpy(chance.uniform(0, math.pi, count))
    families = (
        gaussian_kernels(*shape, torch.ones(count, dtype=torch.float64), sizes),
        gaussian_kernels(*shape, _draw_beta(config.gaussian_beta, count, chance), sizes),
        plateau_kernels(*shape, _draw_beta(config.plateau_beta, count, chance), sizes),
        sinc_kernels(torch.from_numpy(cutoff), sizes),
    )
    return _pulses_where(is_skipped, torch.stack(families)[kind, torch.arange(count)])


def blur(pictures: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each picture with its own kernel, mirrored at the border.

    Args:
        pictures: float32 (N, C, H, W), H and W at least 11.
        kernels: float32 (N, 21, 21).

    Returns:
        float32 (N, C, H, W); a sinc filter overshoots the range of the picture.
    """
    height, width = pictures.shape[-2:]
    padded = F.pad(pictures, [RADIUS_PX] * 4, mode="reflect")
    # By Fourier's transform, ten times as fast on a CPU as a convolution with 441 weights.
    size = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels[:, None], s=size)
    # The product is the convolution, delayed by the kernel's centre: its first 20 rows and columns wrap around.
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)[..., -height:, -width:]
    return blurred


def gaussian_blur(picture: Tensor, sigma_px: float, size_px: int = KERNEL_PX) -> Tensor:
    """Blur a picture, float32 (1, C, H, W), by a round Gaussian of `size_px`: odd, at most 21."""
    sigma = torch.full((1, 2), sigma_px, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    return blur(picture, gaussian_kernels(sigma, 0 * one, one, torch.tensor([size_px])).float())
