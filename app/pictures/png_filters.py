"""PNG's five filters, each a prediction from the three samples left, above, and above left; and which one a row gets.

PNG specification (third edition), section 9. Vectorised over whole blocks of rows in 8-bit arithmetic only, which is
what SIMD units are widest in, and in memory that is kept: to get it from the system takes longer than the arithmetic.
"""

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy
from numpy.typing import NDArray

Bytes = NDArray[numpy.uint8]
Work = Sequence[Bytes]

BLOCK_BYTES = 96 * 1024
"""Rows are filtered in blocks of about this size, which stay in a core's cache with what is computed from them."""

SAMPLE_BYTES = 64
"""Which filter suits a row is judged by windows of so many bytes,"""
LEAST_SAMPLES, SAMPLE_EVERY_BYTES = 4, 1024
"""of which there are at least so many, and one in each so many bytes."""

WORK_ARRAYS = 6
"""What the predictions need beside their result."""

_kept = threading.local()


def row_filter(width: int, pixel_bytes: int) -> "RowFilter":
    """The filter of this thread for rows of a shape; it is kept for the next strip of the same picture."""
    kept: RowFilter | None = getattr(_kept, "filter", None)
    if kept is None or (kept.width, kept.pixel_bytes) != (width, pixel_bytes):
        kept = _kept.filter = RowFilter(width, pixel_bytes)
    return kept


class RowFilter:
    """Filters rows as deflate wants them. One thread at a time may use it.

    Args:
        width: bytes of a row.
        pixel_bytes: distance to the sample of the same channel on the left.
    """

    def __init__(self, width: int, pixel_bytes: int) -> None:
        self.width = width
        self.pixel_bytes = pixel_bytes
        rows = max(1, BLOCK_BYTES // width)
        # With zeros left of each row all of its neighbours lie at fixed distances in flat arrays.
        self._padded = numpy.zeros((1 + rows, pixel_bytes + width), numpy.uint8)
        self._filtered = numpy.empty((rows, 1 + width), numpy.uint8)
        self._residual = numpy.empty(rows * (pixel_bytes + width), numpy.uint8)
        self._work = [numpy.empty_like(self._residual) for _ in range(WORK_ARRAYS)]

    def blocks(self, rows: Bytes, above: Bytes) -> Iterator[Bytes]:
        """Filter rows (H, B), samples as they are in the file, below a row (B,), zeros at the top of the picture.

        Yields:
            Some rows, (some, 1 + B), each with the number of its filter before it; good until the next are asked for.
        """
        most = len(self._filtered)
        choice = _choice(rows, above, self.pixel_bytes)
        for top in range(0, len(rows), most):
            block = rows[top : top + most]
            self._padded[0, self.pixel_bytes :] = rows[top - 1] if top else above
            self._padded[1 : 1 + len(block), self.pixel_bytes :] = block
            yield self._filter(self._padded[: 1 + len(block)], choice[top : top + most])

    def _filter(self, padded: Bytes, choice: Bytes) -> Bytes:
        filtered = self._filtered[: len(choice)]
        filtered[:, 0] = choice
        for number in numpy.flatnonzero(numpy.bincount(choice)).tolist():
            chosen = slice(None) if (choice == number).all() else choice == number
            residual = self._residuals(padded[1:][chosen].reshape(-1), padded[:-1][chosen].reshape(-1), number)
            filtered[chosen, 1:] = residual.reshape(-1, padded.shape[1])[:, self.pixel_bytes :]
        return filtered

    def _residuals(self, here: Bytes, above: Bytes, number: int) -> Bytes:
        """What is left of rows, given flat; the first pixel, which has no neighbours, stays undefined."""
        left, right = slice(None, -self.pixel_bytes), slice(self.pixel_bytes, None)
        residual = self._residual[: here.size]
        work = [array[: here.size - self.pixel_bytes] for array in self._work]
        predicted = PREDICTORS[number](here[left], above[right], above[left], work)
        numpy.subtract(here[right], predicted, out=residual[right])
        return residual


def _choice(rows: Bytes, above: Bytes, pixel_bytes: int) -> Bytes:
    """The filter of each row: the one whose residuals are smallest, as libpng chooses, but judged by a sample."""
    windows = numpy.concatenate((_windows(above[None]), _windows(rows)))
    up_left, up, left, here = (
        part.reshape(-1)
        for some in (windows[:-1], windows[1:])
        for part in (some[..., :-pixel_bytes], some[..., pixel_bytes:])
    )
    if not here.size:  # a single column
        return numpy.zeros(len(rows), numpy.uint8)
    work = [numpy.empty_like(here) for _ in range(WORK_ARRAYS)]
    costs = [
        numpy.abs((here - predict(left, up, up_left, work)).view(numpy.int8)).reshape(len(rows), -1)
        for predict in PREDICTORS
    ]
    best: Bytes = numpy.argmin([cost.view(numpy.uint8).sum(axis=1) for cost in costs], axis=0).astype(numpy.uint8)
    return best


def _windows(rows: Bytes) -> Bytes:
    """Some of the bytes of rows (H, B), as (H, windows, bytes)."""
    height, width = rows.shape
    every = min(SAMPLE_EVERY_BYTES, width // LEAST_SAMPLES)
    if every <= SAMPLE_BYTES:
        return rows[:, None]
    count = width // every
    return rows[:, : count * every].reshape(height, count, every)[..., :SAMPLE_BYTES]


def _none(left: Bytes, up: Bytes, up_left: Bytes, work: Work) -> Bytes:
    work[0].fill(0)
    return work[0]


def _sub(left: Bytes, up: Bytes, up_left: Bytes, work: Work) -> Bytes:
    return left


def _up(left: Bytes, up: Bytes, up_left: Bytes, work: Work) -> Bytes:
    return up


def _average(left: Bytes, up: Bytes, up_left: Bytes, work: Work) -> Bytes:
    common, half = work[:2]
    numpy.bitwise_and(left, up, out=common)
    numpy.bitwise_xor(left, up, out=half)
    half >>= 1
    common += half
    return common


def _paeth(left: Bytes, up: Bytes, up_left: Bytes, work: Work) -> Bytes:
    """Whichever of the three is nearest to left + up - up_left, without leaving eight bits.

    That sum lies as far from the larger of left and up as up_left does from the smaller, on the same side. So the
    smaller is nearest if up_left is beyond the larger, or between the two and at least twice as near to the larger;
    and the other way round. If neither, up_left itself is.
    """
    low, high, nearest, to_low, to_high, bound = work
    numpy.minimum(left, up, out=low)
    numpy.maximum(left, up, out=high)
    numpy.maximum(up_left, low, out=nearest)
    numpy.minimum(nearest, high, out=nearest)
    numpy.subtract(nearest, low, out=to_low)
    numpy.subtract(high, nearest, out=to_high)
    numpy.right_shift(to_low, 1, out=bound)
    numpy.greater(to_high, bound, out=bound.view(numpy.bool_))
    numpy.negative(bound, out=bound)  # all bits set where it holds: ten times as fast as `numpy.where`
    bound |= low
    numpy.minimum(nearest, bound, out=nearest)
    numpy.right_shift(to_high, 1, out=bound)
    numpy.less_equal(to_low, bound, out=bound.view(numpy.bool_))
    numpy.negative(bound, out=bound)
    bound &= high
    numpy.maximum(nearest, bound, out=nearest)
    return nearest


PREDICTORS: tuple[Callable[[Bytes, Bytes, Bytes, Work], Bytes], ...] = (_none, _sub, _up, _average, _paeth)
"""By their numbers in the file. Each gets the samples left, above, and above left, and memory to work in, where its
result may lie."""
