"""PNG's five filters, each a prediction from the three bytes left, above, and above left; and which one a row gets.

PNG specification (third edition), section 9. The work is done by filters.c where that has been compiled, else by
numpy: the same bytes, several times slower, and taking turns with other threads.
"""

import numpy
from numpy.typing import NDArray

from app.png.compiled import compiled

Bytes = NDArray[numpy.uint8]
Samples = NDArray[numpy.uint8 | numpy.uint16]

BLOCK_BYTES = 96 * 1024
"""numpy filters so much at a time, which stays in a core's cache with what is computed from it."""


def filter_rows(samples: Samples, above: Samples | None, filtered: Bytes) -> None:
    """Filter rows, each by the filter whose predictions are nearest to it: the least sum of differences.

    Args:
        samples: (H, W, channels).
        above: (W, channels), the row before them; None at the top of the picture.
        filtered: (H, 1 + bytes of a row), where the result goes: the number of the filter, then what it leaves.
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


def filter_in_numpy(samples: Samples, above: Samples | None, filtered: Bytes) -> None:
    """See `filter_rows`."""
    pixel = samples.shape[2] * samples.itemsize
    # With zeros left of each row and above the first, all neighbours of a byte lie at fixed distances.
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
    """Of two bytes, rounded down."""
    return (left & up) + ((left ^ up) >> 1)


def paeth(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    """Whichever of the three is nearest to left + up - up_left; of equals the first.

    That sum lies as far from the larger of left and up as up_left does from the smaller, on the same side. So the
    smaller is nearest if up_left is beyond the larger, or between the two and at least twice as near to the larger;
    and the other way round. If neither, up_left itself is.
    """
    low, high = numpy.minimum(left, up), numpy.maximum(left, up)
    between = numpy.minimum(numpy.maximum(up_left, low), high)
    to_low, to_high = between - low, high - between
    nearest = numpy.minimum(between, low | _all_bits(to_high > to_low >> 1))
    nearer: Bytes = numpy.maximum(nearest, high & _all_bits(to_low <= to_high >> 1))
    return nearer


def _all_bits(where: NDArray[numpy.bool_]) -> Bytes:
    """255 where it holds, else 0: with it one chooses ten times as fast as with `numpy.where`."""
    return -where.view(numpy.uint8)


def _in_file_order(samples: Samples) -> Bytes:
    """Rows (H, W, channels) as bytes (H, B), the high byte of a sample first."""
    in_order = numpy.ascontiguousarray(samples, ">u2" if samples.itemsize == 2 else "u1")
    return in_order.view(numpy.uint8).reshape(len(samples), -1)
