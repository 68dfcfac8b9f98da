"""PSNR and SSIM on the Y channel, as the literature reports them for super-resolution."""

import torch
from torch import Tensor
from torch.nn import functional


def luma(picture: Tensor) -> Tensor:
    """Y of ITU-R BT.601 as MATLAB's rgb2ycbcr rounds it.

    Args:
        picture: uint8 RGB (..., 3, H, W).

    Returns:
        float64 (..., H, W), whole numbers from 16 to 235.
    """
    red, green, blue = picture.double().unbind(dim=-3)
    return (16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255).round()


def _cropped(picture: Tensor, border: int) -> Tensor:
    return picture[..., border : picture.shape[-2] - border, border : picture.shape[-1] - border]


def _pair(picture: Tensor, reference: Tensor, border: int) -> tuple[Tensor, Tensor]:
    if picture.shape != reference.shape:
        raise ValueError(f"cannot compare {tuple(picture.shape)} with {tuple(reference.shape)}: the sizes differ")
    return _cropped(luma(picture), border), _cropped(luma(reference), border)


def psnr_y(picture: Tensor, reference: Tensor, *, border: int) -> float:
    """Peak signal-to-noise ratio of Y in dB (peak 255), `border` px cut from every side; inf when equal.

    Args:
        picture, reference: uint8 RGB (3, H, W).
    """
    a, b = _pair(picture, reference, border)
    return float(10 * torch.log10(255**2 / (a - b).square().mean()))


def ssim_y(picture: Tensor, reference: Tensor, *, border: int) -> float:
    """Structural similarity of Y (Wang et al. 2004): Gaussian window 11, sigma 1.5, valid positions only.

    Args:
        picture, reference: uint8 RGB (3, H, W).
    """
    a, b = _pair(picture, reference, border)
    offsets = torch.arange(11, dtype=torch.float64) - 5
    gauss = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(gauss, gauss)[None, None] / gauss.sum() ** 2

    def smooth(values: Tensor) -> Tensor:
        return functional.conv2d(values[None, None], window)

    mean_a, mean_b = smooth(a), smooth(b)
    variance_a = smooth(a * a) - mean_a**2
    variance_b = smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(similarity.mean())
