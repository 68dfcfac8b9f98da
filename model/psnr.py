"""The peak signal-to-noise ratio of pictures."""

import math
from typing import Any

import numpy
from numpy.typing import NDArray


def psnr_db(made: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the PSNR of two pictures of one shape in levels of 8 bits; it is infinite where they are equal."""
    error = float(numpy.square(made.astype(float) - expected).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf
