"""Check that the two pictures of a pair show the same, at the same place."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from torch import Tensor

from training.data import READ_ERRORS, read_picture, unreadable
from training.degrade import crop_to_multiple, shrink_bicubic
from training.metrics import luma
from training.pairs import PairFiles, wrong_size

MAX_PX = 512
"""Side of the middle of a low-res picture that is compared."""

MAX_SHIFT_PX = 0.5
"""Maximum shift of a good pair in low-res pixels: more blurs what is learnt."""

MIN_LIKENESS = 0.7
"""Correlation of the pictures of a good pair, at their best shift."""

_MIN_DEVIATION = 1.0  # levels; a flat picture has no place


@dataclass(frozen=True)
class Alignment:
    """The fit of a low-res picture to its reduced original.

    Attributes:
        likeness: correlation of Y where they fit best: 1 for equal pictures, about 0 for different ones.
        down, right: low-res pixels by which the low-res picture is shifted.
    """

    likeness: float
    down: float
    right: float

    @property
    def shift_px(self) -> float:
        """Length of the shift."""
        return float(numpy.hypot(self.down, self.right))

    @property
    def problem(self) -> str | None:
        """Fault of the pair, with the value and the limit; None for a good pair."""
        if self.likeness < MIN_LIKENESS:
            return f"the two pictures do not show the same (correlation {self.likeness:.2f} of {MIN_LIKENESS})"
        if self.shift_px > MAX_SHIFT_PX:
            return (
                f"the low-res picture is shifted by {self.right:+.1f} px to the right and {self.down:+.1f} px down "
                f"(at most {MAX_SHIFT_PX} px)"
            )
        return None


def alignment(low_res: Tensor, high_res: Tensor) -> Alignment | None:
    """Find the shift at which a low-res picture correlates best with its original, reduced by bicubic.

    The middle of the picture counts, and shifts of up to a quarter of it. Brightness and contrast do not matter.

    Args:
        low_res: uint8 RGB (3, H, W).
        high_res: uint8 RGB (3, scale * H, scale * W).

    Returns:
        None if one of them is flat: it fits everywhere.
    """
    scale = high_res.shape[-1] // low_res.shape[-1]
    height, width = low_res.shape[1:]
    rows, columns = (
        slice((side - min(side, MAX_PX)) // 2, (side + min(side, MAX_PX)) // 2) for side in (height, width)
    )
    around = crop_to_multiple(
        high_res[:, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale], scale
    )
    seen = _standardised(luma(low_res[:, rows, columns]).numpy())
    expected = _standardised(luma(shrink_bicubic(around, scale)).numpy())
    if seen is None or expected is None:
        return None
    return _best_shift(seen, expected)


def pair_problem(files: PairFiles, high_res: Tensor, scale: int) -> str | None:
    """Read the low-res picture of a pair, and describe a fault of its file, size or content; None without one.

    Args:
        high_res: the original, uint8 RGB (3, H, W).
    """
    if files.low_res is None:
        return None
    try:
        low_res = read_picture(files.low_res)
    except READ_ERRORS as error:
        return unreadable(files.low_res, error)
    height, width = (side // scale for side in high_res.shape[1:])
    if problem := wrong_size(files, tuple(low_res.shape[1:]), (height, width), scale):
        return problem
    found = alignment(low_res, high_res)
    return f"{files.low_res}: {found.problem}; replace or delete it" if found and found.problem else None


def _standardised(values: NDArray[numpy.float64]) -> NDArray[numpy.float64] | None:
    deviation = float(values.std())
    return None if deviation < _MIN_DEVIATION else (values - values.mean()) / deviation


def _best_shift(seen: NDArray[numpy.float64], expected: NDArray[numpy.float64]) -> Alignment:
    """Compare two arrays (H, W) of mean 0 and deviation 1 at every shift, by their spectra."""
    height, width = seen.shape
    padded = (2 * height, 2 * width)
    spectrum = numpy.fft.rfft2(seen, padded) * numpy.fft.rfft2(expected, padded).conj()
    products = numpy.fft.irfft2(spectrum, padded)
    most_down, most_right = height // 4, width // 4
    down, right = numpy.arange(-most_down, most_down + 1), numpy.arange(-most_right, most_right + 1)
    common = numpy.outer(height - abs(down), width - abs(right))
    likeness = products[numpy.ix_(down, right)] / common
    row, column = numpy.unravel_index(likeness.argmax(), likeness.shape)
    return Alignment(
        min(1.0, float(likeness[row, column])),
        float(down[row]) + _peak(likeness[:, column], int(row)),
        float(right[column]) + _peak(likeness[row], int(column)),
    )


def _peak(values: NDArray[numpy.float64], place: int) -> float:
    """Return the sub-pixel offset of a peak: the top of the parabola through it and its neighbours."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, top, after = values[place - 1 : place + 2].tolist()
    curvature = before - 2 * top + after
    return float((before - after) / (2 * curvature)) if curvature < 0 else 0.0
