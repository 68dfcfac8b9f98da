"""Run a generator over bands of rows: exactly the result for the whole picture, in memory that depends on its width.

A 3x3 convolution needs one row above and one below each row of its result. So its output is one row behind, and it
keeps the last rows of its input, the *halo rows*. As for the whole picture, there is a row of padding above the first
row and below the last. A skip connection keeps its rows until the convolutions that it skips have caught up. No row is
computed twice, and nothing overlaps.

A batch of small pictures goes through the same stages as a single band. Pictures of different sizes are padded; the
pixels around a picture are set back to padding after each convolution, and the next one sees no others. So each picture
is upscaled as if it were alone.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from model.convolutions.convolver import Convolver
from model.convolutions.library import library_convolution
from model.pipeline import reach_rows, stages_of
from model.rrdb import RRDBNet, entering, leaving
from model.stage import Stage, run_next
from model.stages import BLOCK_LAG, DENSE_LAG, GRID_ROWS
from model.workspace import Padding, Workspace

MIN_ROWS = 8
"""Minimum enlarged rows that a stage processes at a time, if the band has them: fewer rows take longer per row."""


def state_bytes(net: RRDBNet, width: int) -> int:
    """Return the memory that a stream keeps between bands: halo rows, and waiting rows of skip connections.

    Args:
        width: width of the picture, a multiple of the network's `unshuffle`.
    """
    config = net.config
    exact, channel = torch.float32.itemsize, net.conv_body.weight.element_size()
    width //= config.unshuffle
    trunk_row = config.channels * exact * width
    waiting = DENSE_LAG * trunk_row if net.conv_body.weight.dtype is torch.bfloat16 else 0
    dense = (DENSE_LAG + 1) * (config.channels + 4 * config.growth) * channel * (width + 2) + waiting
    trunk = config.blocks * (3 * dense + BLOCK_LAG * trunk_row) + (config.blocks * BLOCK_LAG + 1) * trunk_row
    sides = list(accumulate(config.enlargements, operator.mul, initial=1))
    feature_rows = sum(side * width + 2 for side in (*sides, sides[-1])) * config.channels * channel
    first_row = config.inputs * config.unshuffle**2 * exact * (width + 2)
    last_row = config.channels * channel * (sides[-1] * width + 2)
    return config.passes * (trunk + 2 * (feature_rows + first_row + last_row))


def upscale_batch(
    net: RRDBNet,
    pictures: Tensor,
    sizes: Tensor | None = None,
    *,
    workspace: Workspace | None = None,
    convolve: Convolver = library_convolution,
) -> Tensor:
    """Upscale a batch of pictures, each as if it were alone.

    Args:
        pictures: (N, 3, H, W) in [0, 1]; picture n fills the upper left `sizes[n]`, the rest is zero. All sides are
            multiples of the network's `unshuffle`.
        sizes: int64 (N, 2), on the pictures' device; None if all of them are H x W.

    Returns:
        float32 (N, 3, scale * H, scale * W), not clamped; undefined outside a picture.
    """
    config = net.config
    rows = entering(pictures, config)
    full = sizes is None
    if sizes is None and convolve.skips_border:
        sides = [torch.full(pictures.shape[:1], side, device=pictures.device) for side in pictures.shape[2:]]
        sizes = torch.stack(sides, dim=1)
    if sizes is not None:
        seen = (sizes // config.unshuffle).repeat_interleave(config.passes, dim=0)
        padding = Padding(seen, rows.shape[2], rows.shape[3], config.padding_mode, full=full)
        convolve = convolve.padded(padding)
        padding.fill(rows)
    stages: Sequence[Stage] = stages_of(net, workspace or Workspace(), convolve)
    while stages:
        rows, stages = run_next(stages, rows, True)
    return leaving(rows, config)


def upscale_rows(
    net: RRDBNet,
    bands: Iterable[Tensor],
    *,
    band_rows: int,
    workspace: Workspace | None = None,
    convolve: Convolver = library_convolution,
    wraps: bool = False,
) -> Iterator[Tensor]:
    """Upscale a picture of any height, band by band.

    Between items the caller may do other work, or stop: closing the iterator frees all state. All items together are
    the rows of the upscaled picture.

    Args:
        bands: the picture from top to bottom, each (N, 3, R, W) in [0, 1], with at most `band_rows` rows; R and W are
            multiples of the network's `unshuffle`. A picture without rows gives none.
        band_rows: maximum rows of the input that a stage processes at a time; fewer enlarged rows, for the same number
            of pixels, but at least `MIN_ROWS`, if the band has them.
        wraps: the picture tiles: its last row and column are followed by the first ones. The first band then begins
            `rows_before(net)` rows above the picture, which are its last ones, and the last band ends as early.

    Yields:
        float32 (N, 3, some rows or none, scale * W), not clamped: one item for each band, then the rows that
        were waiting for the end of the picture, in bands.
    """
    if wraps:
        begun = net.config.scale * rows_before(net) - reach_rows(net)
        stages = stages_of(net, workspace or Workspace(), convolve, wraps=True)
        return _rotated(_rows(net, stages, bands, band_rows), begun)
    return _rows(net, stages_of(net, workspace or Workspace(), convolve), bands, band_rows)


def rows_before(net: RRDBNet) -> int:
    """Count the rows above a wrapping picture that bands begin with, so that the output begins with the first.

    It is a multiple of the network's `unshuffle`.
    """
    unshuffle = net.config.unshuffle
    return unshuffle * -(-reach_rows(net) // (unshuffle * net.config.scale))


def _rotated(bands: Iterator[Tensor], count: int) -> Iterator[Tensor]:
    """Move the first rows behind the last ones."""
    first: list[Tensor] = []
    for band in bands:
        moved = band[:, :, :count]
        first.append(moved)
        count -= moved.shape[2]
        yield band[:, :, moved.shape[2] :]
    yield torch.cat(first, dim=2)


def _rows(net: RRDBNet, stages: Sequence[Stage], bands: Iterable[Tensor], band_rows: int) -> Iterator[Tensor]:
    config = net.config
    source = iter(bands)
    rows = next(source)
    planes, _, _, width = rows.shape

    def most_rows(columns: int) -> int:
        rows = max(min(band_rows, MIN_ROWS), band_rows * width // columns)
        return max(GRID_ROWS, rows - rows % GRID_ROWS)  # less than the last rows release would not reach skips in time

    none = rows.new_empty(config.passes * planes, config.colours, 0, config.scale * width)
    for following in source:
        if rows.shape[2] and following.shape[2]:
            yield leaving(_joined([none, *_through(stages, entering(rows, config), False, most_rows)]), config)
        else:
            yield leaving(none, config)
        rows = following if following.shape[2] else rows
    freed = [none]
    for more in _through(stages, entering(rows, config), True, most_rows):
        freed.append(more)
        if sum(part.shape[2] for part in freed) >= config.scale * band_rows:
            yield leaving(_joined(freed), config)
            freed = [none]
    yield leaving(_joined(freed), config)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Join the first part, which has no rows, with the others; a single other one is not copied."""
    return parts[1] if len(parts) == 2 else torch.cat([*parts], dim=2)


def _through(stages: Sequence[Stage], rows: Tensor, last: bool, most_rows: Callable[[int], int]) -> Iterator[Tensor]:
    """Send rows through all stages, and yield the output of the last one.

    The last rows of a picture release all waiting rows, and an enlargement by 2 makes four pixels of one. Such rows are
    cut into bands of at most `most_rows`, by their width, to limit memory.
    """
    if not stages:
        yield rows
        return
    made, others = run_next(stages, rows, last)
    if made.shape[2] == 0:
        return
    *before, final = _cut(made, most_rows(made.shape[3]), (others[0].row + others[0].lag) if others else 0)
    for band in before:
        yield from _through(others, band, False, most_rows)
    yield from _through(others, final, last, most_rows)


def _cut(rows: Tensor, most_rows: int, grid_row: int) -> list[Tensor]:
    """Cut rows, beginning with row `grid_row`, into bands that end on the grid of the next stage."""
    first = min(rows.shape[2], max(1, most_rows - grid_row % GRID_ROWS))
    others: list[Tensor] = [*rows[:, :, first:].split(most_rows, dim=2)] if first < rows.shape[2] else []
    return [rows[:, :, :first], *others]
