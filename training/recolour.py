"""Other colours for a picture, so that a generator also learns those that photographs seldom hold.

Every change is an affine map of RGB, applied to each pixel and clamped: other channel orders, hues and saturations,
negatives, shades between two drawn colours, and flat colour.
"""

import math

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[numpy.float64]

_LUMA = numpy.array([0.299, 0.587, 0.114])
_KINDS = ("channels", "hue", "tone", "negative", "duotone", "flat")
_SHARES = (0.2, 0.3, 0.1, 0.05, 0.28, 0.07)


def recolour(picture: Tensor, matrix: Matrix, offset: Matrix) -> Tensor:
    """Map every pixel to `matrix @ rgb + offset`: uint8 RGB (3, H, W) -> the same, rounded and clamped.

    Args:
        matrix: (3, 3).
        offset: (3,), in levels of 255.
    """
    pixels = torch.from_numpy(matrix).float() @ picture.flatten(1).float() + torch.from_numpy(offset).float()[:, None]
    return pixels.round().clamp(0, 255).to(torch.uint8).view(picture.shape)


def draw_recolouring(rng: numpy.random.Generator) -> tuple[Matrix, Matrix]:
    """Draw the matrix and offset of `recolour`."""
    kind = rng.choice(_KINDS, p=_SHARES)
    nothing = numpy.zeros(3)
    if kind == "channels":
        return numpy.eye(3)[rng.permutation(3)], nothing
    if kind == "hue":
        return _hue(rng.uniform(0, 2 * math.pi), rng.uniform(0, 2.5)), nothing
    if kind == "tone":  # night and overexposure, in each channel a little differently
        return numpy.diag(rng.uniform(0.25, 1.5) * rng.uniform(0.9, 1.1, 3)), nothing
    if kind == "negative":
        return -numpy.eye(3), numpy.full(3, 255.0)
    if kind == "duotone":
        dark, light = _draw_colour(rng), _draw_colour(rng)
        # Steeper than the picture's own greys, so that much of it is one of the two colours.
        contrast = rng.uniform(1, 3)
        ramp = numpy.outer(light - dark, _LUMA) / 255
        return contrast * ramp, dark + (light - dark) * 0.5 * (1 - contrast)
    return numpy.zeros((3, 3)), _draw_colour(rng)


def _hue(angle: float, saturation: float) -> Matrix:
    """Turn colours about the grey axis and scale their distance from it; the luma stays."""
    cosine, sine = math.cos(angle), math.sin(angle)
    third, root = (1 - cosine) / 3, sine / math.sqrt(3)
    turn = numpy.full((3, 3), third) + numpy.diag([cosine] * 3)
    turn += root * numpy.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    grey = numpy.outer(numpy.ones(3), _LUMA)
    return grey + saturation * (turn - numpy.outer(numpy.ones(3), _LUMA @ turn))


def _draw_colour(rng: numpy.random.Generator) -> Matrix:
    """A colour, evenly from the RGB cube but with its faces, edges and corners as frequent as its inside."""
    colour = rng.uniform(0, 255, 3)
    ends = 255.0 * rng.integers(2, size=3)
    return numpy.where(rng.random(3) < 0.3, ends, colour)
