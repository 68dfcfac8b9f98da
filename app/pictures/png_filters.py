"""PNG's five filters, each a prediction from the three samples left, above, and above left; and which one a row gets.

PNG specification (third edition), section 9. Vectorised over whole blocks of rows in 8-bit arithmetic only, which is
what SIMD units are widest in.
"""

from collections.abc import Callable

import numpy
from numpy.typing import NDArray

Bytes = NDArray[numpy.uint8]

BLOCK_BYTES = 96 * 1024
"""Rows are filtered in blocks of about this size: what is computed from one stays in a core's cache, and its memory in
the allocator's."""

SAMPLE_BYTES, SAMPLE_EVERY_BYTES = 64, 1024
"""Of so many bytes in each so many of a row is judged which filter suits it."""


def filter_rows(rows: Bytes, above: Bytes, pixel_bytes: int) -> Bytes:
    """Filter rows as deflate wants them.

    Args:
        rows: (H, B), samples as they are in the file.
        above: (B,), the row before them; zeros at the top of the picture.
        pixel_bytes: distance to the sample of the same channel on the left.

    Returns:
        (H, 1 + B): each row with the number of its filter before it.
    """
    height, width = rows.shape
    filtered = numpy.empty((height, 1 + width), numpy.uint8)
    block = max(1, BLOCK_BYTES // width)
    for top in range(0, height, block):
        end = min(top + block, height)
        _filter_block(filtered[top:end], rows[top:end], rows[top - 1] if top else above, pixel_bytes)
    return filtered


def _filter_block(filtered: Bytes, rows: Bytes, above: Bytes, pixel_bytes: int) -> None:
    height, width = rows.shape
    # With zeros left of each row all of its neighbours lie at fixed distances in one flat array.
    padded = numpy.zeros((1 + height, pixel_bytes + width), numpy.uint8)
    padded[0, pixel_bytes:] = above
    padded[1:, pixel_bytes:] = rows
    flat, stride = padded.reshape(-1), pixel_bytes + width
    here, left = flat[stride:], flat[stride - pixel_bytes : -pixel_bytes]
    up, up_left = flat[:-stride], numpy.concatenate((flat[:pixel_bytes], flat[: -stride - pixel_bytes]))
    choice = _choice(padded, pixel_bytes)
    filtered[:, 0] = choice
    for number in numpy.unique(choice):
        residual = (here - PREDICTORS[number](left, up, up_left)).reshape(height, stride)[:, pixel_bytes:]
        chosen = choice == number
        if chosen.all():
            filtered[:, 1:] = residual
        else:
            filtered[chosen, 1:] = residual[chosen]


def _choice(padded: Bytes, pixel_bytes: int) -> Bytes:
    """The filter of each row: the one whose residuals are smallest, as libpng chooses, but judged by a sample."""
    height, stride = padded.shape
    windows = padded[:, None]
    if stride >= 4 * SAMPLE_EVERY_BYTES:
        count = stride // SAMPLE_EVERY_BYTES
        windows = padded[:, : count * SAMPLE_EVERY_BYTES].reshape(height, count, SAMPLE_EVERY_BYTES)[..., :SAMPLE_BYTES]
    up_left, up, left, here = (
        part.reshape(height - 1, -1)
        for rows in (windows[:-1], windows[1:])
        for part in (rows[..., :-pixel_bytes], rows[..., pixel_bytes:])
    )
    residuals = (here - predict(left, up, up_left) for predict in PREDICTORS)
    costs = [numpy.abs(residual.view(numpy.int8)).view(numpy.uint8).sum(axis=1) for residual in residuals]
    best: Bytes = numpy.argmin(costs, axis=0).astype(numpy.uint8)
    return best


def _none(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    return numpy.zeros_like(left)


def _sub(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    return left


def _up(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    return up


def _average(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    return (left & up) + ((left ^ up) >> 1)


def _paeth(left: Bytes, up: Bytes, up_left: Bytes) -> Bytes:
    """Whichever of the three is nearest to left + up - up_left, without leaving eight bits.

    That sum lies beyond the larger or smaller of left and up if up_left lies beyond the other, and these are nearest
    then. If up_left lies between, the distances to the three are differences of two of them.
    """
    low, high = numpy.minimum(left, up), numpy.maximum(left, up)
    between = numpy.minimum(numpy.maximum(up_left, low), high)
    to_low, to_high = high - between, between - low
    nearer = numpy.minimum(to_low, to_high)
    to_between = numpy.maximum(to_low, to_high) - nearer
    low ^= (low ^ high) & _mask(to_high < to_low)
    nearest: Bytes = low ^ ((low ^ between) & _mask(to_between < nearer))
    return nearest


def _mask(condition: NDArray[numpy.bool_]) -> Bytes:
    """All bits set where it holds: to choose by bits is ten times as fast as `numpy.where`."""
    mask: Bytes = numpy.negative(condition.view(numpy.uint8))
    return mask


PREDICTORS: tuple[Callable[[Bytes, Bytes, Bytes], Bytes], ...] = (_none, _sub, _up, _average, _paeth)
"""By their numbers in the file."""
