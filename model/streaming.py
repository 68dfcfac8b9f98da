"""The generator over bands of rows: the untiled result, exactly, in memory that grows with the width only.

A 3x3 convolution needs one row above and one below each row that it makes. So it answers one row late and remembers
the last rows of its input, the *halo rows*; a row of padding comes above the first row of the picture and below the
last, as in the whole picture. A skip path holds its rows until the convolutions next to it have caught up. No row is
ever computed twice, and nothing overlaps.

A batch of small pictures goes through the same stages as one band. Pictures of different sizes share a batch by
padding; the pixels next to a picture are made padding again after each convolution, which is all that the next one can
see. So each picture is upscaled as if it were alone.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from model.convolutions.convolver import Convolver, PaddedConvolver
from model.convolutions.fused import FusedConvolver
from model.convolutions.library import library_convolution
from model.rrdb import RRDBNet, entering, leaving
from model.stages import BLOCK_LAG, DENSE_LAG, GRID_ROWS, Stage, stages_of
from model.workspace import Padding, Workspace

LEAST_ROWS = 8
"""Enlarged rows that a stage handles at a time, if the band has as many: of fewer, each takes longer."""


def state_bytes(net: RRDBNet, width: int) -> int:
    """Memory that a stream holds from band to band: halo rows, and rows on the skip paths.

    Args:
        width: of the picture, a multiple of the network's `unshuffle`.
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
        sizes: int64 (N, 2), on the pictures' device; None where all of them are H x W.

    Returns:
        float32 (N, 3, scale * H, scale * W), not clamped; what lies outside a picture has no meaning.
    """
    config = net.config
    rows = entering(pictures, config)
    full = sizes is None
    if sizes is None and isinstance(convolve, FusedConvolver):  # which then needs no border around them
        sides = [torch.full(pictures.shape[:1], side, device=pictures.device) for side in pictures.shape[2:]]
        sizes = torch.stack(sides, dim=1)
    if sizes is not None:
        seen = (sizes // config.unshuffle).repeat_interleave(config.passes, dim=0)
        padding = Padding(seen, rows.shape[2], rows.shape[3], config.padding_mode, full=full)
        convolve = (
            convolve.padded(padding) if isinstance(convolve, FusedConvolver) else PaddedConvolver(convolve, padding)
        )
        padding.fill(rows)
    for stage in stages_of(net, workspace or Workspace(), convolve):
        rows = stage(rows, True)
    return leaving(rows, config)


def upscale_rows(
    net: RRDBNet,
    bands: Iterable[Tensor],
    *,
    band_rows: int,
    workspace: Workspace | None = None,
    convolve: Convolver = library_convolution,
) -> Iterator[Tensor]:
    """Upscale a picture of any height, band by band.

    Between two items the caller may do other work, or stop: closing the iterator frees all state. The rows of all
    items together are the upscaled picture.

    Args:
        bands: the picture from top to bottom, each (N, 3, R, W) in [0, 1], with at most `band_rows` rows; R and W are
            multiples of the network's `unshuffle`.
        band_rows: the most rows of the input that a stage handles at a time; of enlarged rows as many as hold no more
            pixels, but at least `LEAST_ROWS`, if the band has as many.

    Yields:
        float32 (N, 3, some rows or none, scale * W), not clamped: once for each band, and then what the end of the
        picture has set free, in bands as well.
    """
    config = net.config
    stages = stages_of(net, workspace or Workspace(), convolve)
    source = iter(bands)
    rows = next(source)
    planes, _, _, width = rows.shape

    def most_rows(columns: int) -> int:
        rows = max(min(band_rows, LEAST_ROWS), band_rows * width // columns)
        return rows - rows % GRID_ROWS if rows > GRID_ROWS else rows

    none = rows.new_empty(config.passes * planes, config.colours, 0, config.scale * width)
    for following in source:
        yield leaving(torch.cat([none, *_through(stages, entering(rows, config), False, most_rows)], dim=2), config)
        rows = following
    freed = [none]
    for more in _through(stages, entering(rows, config), True, most_rows):
        freed.append(more)
        if sum(part.shape[2] for part in freed) >= config.scale * band_rows:
            yield leaving(torch.cat(freed, dim=2), config)
            freed = [none]
    yield leaving(torch.cat(freed, dim=2), config)


def _through(stages: Sequence[Stage], rows: Tensor, last: bool, most_rows: Callable[[int], int]) -> Iterator[Tensor]:
    """Send rows through all stages; yields what comes out of the last one.

    The last rows of a picture set free all that waited for them, and a doubling makes four pixels of one. They go on in
    bands of at most `most_rows` of their width, so that memory stays bounded.
    """
    if not stages:
        yield rows
        return
    stage, *others = stages
    made = stage(rows, last)
    stage.row += rows.shape[2]
    if made.shape[2] == 0:
        return
    *before, final = _cut(made, most_rows(made.shape[3]), (others[0].row + others[0].lag) if others else 0)
    for band in before:
        yield from _through(others, band, False, most_rows)
    yield from _through(others, final, last, most_rows)


def _cut(rows: Tensor, most_rows: int, grid_row: int) -> list[Tensor]:
    """Cut rows into bands that end on the grid of the stage that takes them; the first of them is row `grid_row`."""
    first = min(rows.shape[2], max(1, most_rows - grid_row % GRID_ROWS))
    others: list[Tensor] = [*rows[:, :, first:].split(most_rows, dim=2)] if first < rows.shape[2] else []
    return [rows[:, :, :first], *others]
