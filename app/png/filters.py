"""The five filters of PNG: predictions of each byte from those left, above and above left; one filter per row.

PNG specification (third edition), section 9. filters.c does the work where it is compiled, else numpy: the result is
the same, but numpy is several times slower and holds the GIL.
"""

import numpy
from numpy.typing import NDArray

from app.png.compiled import compiled

Bytes = NDArray[numpy.uint8]
SampleArray = NDArray[numpy.uint8 | numpy.uint16]

BLOCK_BYTES = 96 * 1024
"""Bytes that numpy filters at a time; they and the intermediate results fit a core's cache."""


def filter_rows(samples: SampleArray, above: SampleArray | None, filtered: Bytes) -> None:
    """Filter each row with the filter that leaves the smallest sum of absolute differences.

    Args:
        samples: (H, W, channels).
        above: (W, channels), the row before them; None at the top of the picture.
        filtered: (H, 1 + bytes of a row), the result: the filter's number, then the filtered bytes.
    """
    in_c = compiled("filter_rows")
    if in_c is None:
        rows = max(1, BLOCK_BYTES // filtered.shape[1])
        for top in range(0, len(samples), rows):
            block, before = samples[top : top + rows], samples[top - 1] if top else above
            filter_in_numpy(block, before, filtered[top : top + rows])
        return
    if samples.strides[1:] != (samples.shape[2] * samples.itemsize, samples.itemsize):
        samples = numpy.ascontiguousarray(samples)
    if above is not None:
        above = numpy.ascontiguousarray(above)
    height, _, channels = samples.shape
    failed = in_c(
        samples.ctypes.data,
        samples.strides[0],
        None if above is None else above.ctypes.data,
        height,
        filtered.shape[1] - 1,
        channels * samples.itemsize,
        samples.itemsize,
        filtered.ctypes.data,
    )
    if failed:
        raise MemoryError("no memory for four rows of a picture")


def filter_in_numpy(samples: SampleArray, above: SampleArray | None, filtered: Bytes) -> None:
    """Filter rows with numpy; see `filter_rows`."""
    pixel = samples.shape[2] * samples.itemsize
    # With zeros left of each row and above the first, all neighbours of a byte are at fixed distances.
    padded = numpy.zeros((1 + len(samples), pixel + filtered.shape[1] - 1), numpy.uint8)
    padded[1:, pixel:] = _in_file_order(samples)
    if above is not None:
        padded[0, pixel:] = _in_file_order(above[None])[0]
    here, up, left, up_left = padded[1:, pixel:], padded[:-1, pixel:], padded[1:, :-pixel], padded[:-1, :-pixel]
    predictions = (numpy.zeros_like(here), left, up, average(left, up), paeth(left, up, up_left))
    distances = [
        (numpy.maximum(here, predicted) - numpy.minimum(here, predicted)).sum(axis=1, dtype=numpy.uint64)
        for predicted in predictions
    ]
    choice = numpy.argmin(distances, axis=0)
    filtered[:, 0] = choice
    for number, predicted in enumerate(predictions):
        chosen = choice == number
        filtered[chosen, 1:] = here[chosen] - predicted[chosen]


def average(left: Bytes, up: Bytes) -> Bytes:
    """Return the mean of two bytes, rounded down."""
    return (left & up) + ((left ^ up) >> 1)


def paeth(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    """Return left, up or up_left, whichever is nearest to left + up - up_left; the first of equals.

    That sum is as far from the larger of left and up as up_left is from the smaller, on the same side. So the smaller
    is nearest if up_left is beyond the larger, or between the two and at least twice as near to the larger; and vice
    versa. Otherwise up_left itself is nearest.
    """
    low, high = numpy.minimum(left, up), numpy.maximum(left, up)
    between = numpy.minimum(numpy.maximum(up_left, low), high)
    to_low, to_high = between - low, high - between
    nearest = numpy.minimum(between, low | _all_bits(to_high > to_low >> 1))
    nearer: Bytes = numpy.maximum(nearest, high & _all_bits(to_low <= to_high >> 1))
    return nearer


def _all_bits(where: NDArray[numpy.bool_]) -> Bytes:
    """Return 255 where true, else 0: selecting with such a mask is ten times as fast as `numpy.where`."""
    return -where.view(numpy.uint8)


def _in_file_order(samples: SampleArray) -> Bytes:
    """Return rows (H, W, channels) as bytes (H, B), the high byte of a sample first."""
    in_order = numpy.ascontiguousarray(samples, ">u2" if samples.itemsize == 2 else "u1")
    return in_order.view(numpy.uint8).reshape(len(samples), -1)
