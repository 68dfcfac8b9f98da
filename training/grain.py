"""Grain: the noise that remains, or is drawn, where the original is smooth."""

from torch import Tensor
from torch.nn import functional

WINDOW_PX = 17
SMOOTH_LEVELS = 5.0
"""Standard deviation in a window, in 8-bit levels, up to which the original counts as smooth."""

MIN_SHARE = 0.05
"""Share of a picture that has to be smooth."""


def grain(upscaled: Tensor, high_res: Tensor) -> float | None:
    """Root mean square of the error without its local mean, in 8-bit levels, where the original is smooth.

    Eyes see grain and blotches of colour on skies and skin at once, and PSNR-Y and LPIPS hardly do: the former ignores
    colour, and the latter takes grain for texture.

    Args:
        upscaled, high_res: uint8 RGB (3, H, W).

    Returns:
        0 for equal pictures; None if less than `MIN_SHARE` of the original is smooth.
    """
    original = high_res.float()
    variance = _local_mean(original.square()) - _local_mean(original).square()
    smooth = variance.mean(dim=0) <= SMOOTH_LEVELS**2
    if smooth.float().mean() < MIN_SHARE:
        return None
    error = upscaled.float() - original
    fine = error - _local_mean(error)
    return float(fine.square().mean(dim=0)[smooth].mean().sqrt())


def _local_mean(values: Tensor) -> Tensor:
    """Mean in the window around each pixel, as far as the window lies inside the picture."""
    mean: Tensor = functional.avg_pool2d(
        values[None], WINDOW_PX, stride=1, padding=WINDOW_PX // 2, count_include_pad=False
    )[0]
    return mean
