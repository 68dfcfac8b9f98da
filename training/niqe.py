"""NIQE: the distance of a picture's statistics from those of pristine photographs, without any reference.

Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE Signal Processing Letters
2013; numbers of equations are theirs. The conventions are those of the authors' MATLAB release, which the literature
on super-resolution reports: Y of BT.601, whole blocks of 96 x 96 px side by side, two scales.
"""

from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.metrics import luma

PRISTINE = Path(__file__).parent / "weights" / "niqe-pristine.safetensors"
BLOCK_PX = 96
MIN_BLOCKS = 2
"""One block alone has no covariance."""

BELL = torch.exp(-((torch.arange(7, dtype=torch.float64) - 3) ** 2) / (2 * (7 / 6) ** 2))
WINDOW = BELL / BELL.sum()
"""Gaussian of 7 px, sigma 7/6: one dimension of the window in equations 2 and 3."""

HALVING = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3], dtype=torch.float64) / 256
"""MATLAB's `imresize(..., 0.5)`: Keys' cubic, twice as wide against aliasing, at 1/4, 3/4, 5/4 and 7/4."""

NOISE = 1e-9
"""Differences below this, in levels, are rounding errors of float64, whose signs would distort the statistics.

Implementations differ in flat parts: `ppt3` of Set14, a drawing, has 5.448 in BasicSR and 5.452 here.
"""

SHAPES = torch.arange(200, 10_001, dtype=torch.float64) / 1000
"""Exponents of a generalised Gaussian that a fit chooses from: 0.2 to 10."""


def niqe(picture: Tensor, *, border: int = 0) -> float:
    """Naturalness image quality evaluator of Y; lower is more natural, good photographs have 2 to 5.

    Rows below and columns at the right of the last whole block do not count.

    Args:
        picture: uint8 RGB (3, H, W), at least 96 x 192 px or 192 x 96 px within the border.
        border: px cut from every side first.

    Raises:
        ValueError: the picture has fewer than two whole blocks, or all but one of them are flat.
    """
    height, width = picture.shape[-2:]
    y = luma(picture[..., border : height - border, border : width - border])
    rows, columns = (size // BLOCK_PX for size in y.shape)
    if rows * columns < MIN_BLOCKS:
        raise ValueError(
            f"a picture of {width} x {height} px with a border of {border} px holds {rows * columns} whole blocks of "
            f"{BLOCK_PX} x {BLOCK_PX} px; NIQE needs at least {MIN_BLOCKS}"
        )
    y = y[: rows * BLOCK_PX, : columns * BLOCK_PX].cpu()
    features = torch.cat([_features(y, BLOCK_PX), _features(_halved(y), BLOCK_PX // 2)], dim=1)
    textured = features[~features.isnan().any(dim=1)]
    if len(textured) < MIN_BLOCKS:
        raise ValueError(f"{len(textured)} of {len(features)} blocks have texture; NIQE needs {MIN_BLOCKS}")
    return _distance_to_pristine(features.nanmean(dim=0), textured.T.cov())


@lru_cache(maxsize=1)
def _pristine() -> tuple[Tensor, Tensor]:
    """The authors' fit to 125 pristine photographs: mean (36,) and covariance (36, 36), float64."""
    model = load_file(PRISTINE)
    return model["mean"], model["covariance"]


def _distance_to_pristine(mean: Tensor, covariance: Tensor) -> float:
    """Equation 10: the distance of two multivariate Gaussians."""
    pristine_mean, pristine_covariance = _pristine()
    apart = pristine_mean - mean
    precision = torch.linalg.pinv((pristine_covariance + covariance) / 2)
    return float((apart @ precision @ apart).sqrt())


def _features(y: Tensor, block_px: int) -> Tensor:
    """The 18 features of every block at one scale: float64 (H, W) -> (blocks, 18); NaN where a block is flat."""
    height, width = y.shape
    blocks = _normalised(y).view(height // block_px, block_px, width // block_px, block_px)
    blocks = blocks.transpose(1, 2).reshape(-1, block_px, block_px)
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    # Neighbours at the right, below and on both diagonals; a block is rolled, so its two ends are neighbours too.
    for offset in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _fit(blocks * blocks.roll(offset, dims=(1, 2)))
        mean = (right - left) * (torch.lgamma(2 / shape) - torch.lgamma(1 / shape)).exp()  # equation 8
        features += [shape, mean, left, right]
    return torch.stack(features, dim=1)


def _normalised(y: Tensor) -> Tensor:
    """Equation 1: without its local mean, divided by its local deviation."""
    mean = _smooth(y)
    deviation = (_smooth(y * y) - mean * mean).abs().sqrt()
    detail = y - mean
    return torch.where(detail.abs() < NOISE, 0.0, detail) / (deviation + 1)


def _smooth(values: Tensor) -> Tensor:
    """Compute the local mean (H, W) -> (H, W); the border is repeated."""
    for _ in range(2):  # first down the columns, then, transposed, along the rows
        padded = torch.cat([values[:1].expand(3, -1), values, values[-1:].expand(3, -1)])
        values = (padded.unfold(0, len(WINDOW), 1) @ WINDOW).T
    return values


def _halved(values: Tensor) -> Tensor:
    """MATLAB's bicubic reduction of even sizes (H, W) -> (H / 2, W / 2), not rounded; mirrored at the border."""
    for _ in range(2):
        padded = torch.cat([values[:3].flip(0), values, values[-3:].flip(0)])
        values = (padded.unfold(0, len(HALVING), 2) @ HALVING).T
    return values


def _fit(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moment matching of an asymmetric generalised Gaussian (equation 4) to every block.

    Args:
        blocks: float64 (blocks, block_px, block_px).

    Returns:
        shape, left scale and right scale, float64 (blocks,); a scale is NaN where no value has its sign.
    """
    values = blocks.flatten(1)
    left = _root_mean_square(values, values < 0)
    right = _root_mean_square(values, values > 0)
    skew = left / right
    ratio = values.abs().mean(dim=1).square() / values.square().mean(dim=1)
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = _shape_with(ratio)
    spread = ((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2).exp()
    return shape, left * spread, right * spread


def _root_mean_square(values: Tensor, chosen: Tensor) -> Tensor:
    """Compute the root mean square of the chosen values of each row; NaN if there are none."""
    return (torch.where(chosen, values, 0.0).square().sum(dim=1) / chosen.sum(dim=1)).sqrt()


def _shape_with(ratio: Tensor) -> Tensor:
    """The exponent whose E[|x|]^2 / E[x^2] is nearest to a ratio, which grows with the exponent."""
    ratios = (2 * torch.lgamma(2 / SHAPES) - torch.lgamma(1 / SHAPES) - torch.lgamma(3 / SHAPES)).exp()
    halfway = (ratios[1:] + ratios[:-1]) / 2
    # A flat block has no ratio: MATLAB then takes the first shape, and so it counts in the mean of the features.
    return SHAPES[torch.bucketize(ratio.nan_to_num(nan=0.0), halfway)]
