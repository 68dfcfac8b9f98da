"""The generator over bands of rows: the untiled result, exactly, in memory that grows with the width only.

A 3x3 convolution needs one row above and one below each row that it makes. So it answers one row late and remembers
the last rows of its input, the *halo rows*; a row of padding comes above the first row of the picture and below the
last, as in the whole picture. A skip path holds its rows until the convolutions next to it have caught up. No row is
ever computed twice, and nothing overlaps.

A stage works in a buffer that all stages share: its halo rows in front, the new rows behind them. In a dense block each
convolution writes its channels behind those before it, so nothing is concatenated. Between two bands only halo rows and
waiting rows are kept, in memory that is allocated once.

A batch of small pictures goes through the same stages as one band. Pictures of different sizes share a batch by
padding; the pixels next to a picture are made padding again after each convolution, which is all that the next one can
see. So each picture is upscaled as if it were alone.

A convolution that works in tiles of rows rounds a row a little differently in another place of a tile. So each
convolution counts its rows from one fixed place, its *grid*: the rows by which it stays behind the picture, before the
picture's first. Bands of a multiple of `GRID_ROWS` end where tiles end, in every stage, and the result does not depend
on how high they are.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor, nn

from model.convolution import Convolver, PaddedConvolver, library_convolution
from model.rrdb import RESIDUAL_SCALING, RRDB, ResidualDenseBlock, RRDBNet, entering, leaving
from model.workspace import Padding, SkipPath, Window, Workspace

DENSE_LAG = 5
"""Rows by which the output of a dense block stays behind its input: one for each of its convolutions."""

BLOCK_LAG = 3 * DENSE_LAG

LEAST_ROWS = 8
"""Enlarged rows that a stage handles at a time, if the band has as many: of fewer, each takes longer."""

GRID_ROWS = 4
"""Rows of a tile of the convolutions that work in tiles: bands of a multiple of these give the same bits."""


class Stage(Protocol):
    """A part of the network that takes rows and makes rows."""

    lag: int
    """Rows by which its input stays behind the picture, at its input's size."""
    row: int
    """Row of the picture that its next input begins with."""

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Take the next rows (N, C, R, W), the last ones or not; returns the rows that are complete, or none."""


class ConvolutionStage:
    """One convolution.

    Args:
        lag: see `Stage`.
        active: LeakyReLU comes after it.
        factor: of the nearest-neighbour enlargement that comes before it.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        workspace: Workspace,
        convolve: Convolver,
        lag: int,
        *,
        active: bool = False,
        factor: int = 1,
    ) -> None:
        self.lag, self.row = lag, 0
        self._conv = conv
        self._window = Window(workspace, conv, most_kept=2)
        self._convolve = convolve
        self._active = active
        self._factor = factor

    @property
    def lag_after(self) -> int:
        """Rows by which its output stays behind the enlarged picture."""
        return self._factor * self.lag + 1

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        planes, _, rows_count, columns = rows.shape
        height, width = self._factor * rows_count, self._factor * columns
        buffer = self._window.open(planes, height, width, last)
        begin = self._window.kept
        new = buffer[:, :, begin : begin + height, 1:-1]
        blocks = new.unflatten(3, (columns, self._factor)).unflatten(2, (rows_count, self._factor))
        blocks.copy_(rows[:, :, :, None, :, None])
        self._window.pad(buffer, begin, begin + height, last)
        grid_row = self._window.first_row + 1 + self.lag_after
        made = self._convolve(self._conv, buffer, active=self._active, grid_row=grid_row)
        if not last:
            self._window.keep(buffer, max(0, buffer.shape[2] - 2))
        return made


class DenseStage:
    """A residual dense block. Its convolutions run in their own number format.

    The input waits for its residual in the window; of a format that would round it away, it waits in float32 instead.
    """

    def __init__(self, block: ResidualDenseBlock, workspace: Workspace, convolve: Convolver, lag: int) -> None:
        self.lag, self.row = lag, 0
        self._growing = block.growing
        self._closing = block.conv5
        self._channels = block.conv1.in_channels
        self._growth = block.conv1.out_channels
        self._window = Window(workspace, block.conv5, most_kept=DENSE_LAG + 1)
        self._convolve = convolve
        self._skip = SkipPath(DENSE_LAG) if block.conv5.weight.dtype is torch.bfloat16 else None
        self._filled = [1] * DENSE_LAG
        """Rows in the buffer, of the input and of each growing convolution's output; the first is the one above."""

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        planes, _, height, width = rows.shape
        if self._skip is not None:
            self._skip.put(rows)
        features = self._window.open(planes, height, width, last)
        begin, own = self._window.kept, features[:, : self._channels]
        own[:, :, begin : begin + height, 1:-1] = rows
        self._window.pad(own, begin, begin + height, last)
        self._filled[0] += height
        for number, conv in enumerate(self._growing):
            self._grow(features, number, conv, last)
        seen = features[:, :, : self._filled[-1] + last]
        made = self._convolve(
            self._closing,
            seen,
            residual=RESIDUAL_SCALING if self._skip is None else 0.0,
            grid_row=self._window.first_row + 1 + self.lag + DENSE_LAG,
        )
        if not last:
            done = made.shape[2]
            self._window.keep(features, done)
            self._filled = [filled - done for filled in self._filled]
        return made if self._skip is None else self._skip.add_to(made, RESIDUAL_SCALING)

    def _grow(self, features: Tensor, number: int, conv: nn.Conv2d, last: bool) -> None:
        """Let a convolution write the rows that it can into its channels of the buffer."""
        readable, written = self._filled[number] + last, self._filled[number + 1]
        if readable - 1 <= written:
            return
        window = features[:, : conv.in_channels, written - 1 : readable]
        own = features[:, conv.in_channels : conv.in_channels + self._growth]
        grid_row = self._window.first_row + written + self.lag + number + 1
        target = own[:, :, written : readable - 1, 1:-1]
        self._convolve(conv, window, active=True, target=target, grid_row=grid_row)
        self._window.pad(own, written, readable - 1, last)
        self._filled[number + 1] = readable - 1


class BlockStage:
    """An RRDB: three dense blocks inside one more residual."""

    def __init__(self, block: RRDB, workspace: Workspace, convolve: Convolver, lag: int) -> None:
        self.lag, self.row = lag, 0
        self._dense = [
            DenseStage(dense, workspace, convolve, lag + number * DENSE_LAG)
            for number, dense in enumerate((block.rdb1, block.rdb2, block.rdb3))
        ]
        self._skip = SkipPath(BLOCK_LAG)

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        self._skip.put(rows)
        for dense in self._dense:
            rows = dense(rows, last)
        return self._skip.add_to(rows, RESIDUAL_SCALING)


class EnteringStage:
    """The beginning of the trunk: rows pass, and also wait for the trunk's end."""

    def __init__(self, lag: int, skip: SkipPath) -> None:
        self.lag, self.row = lag, 0
        self._skip = skip

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        trunk_rows = rows.float()
        self._skip.put(trunk_rows)
        return trunk_rows


class ClosingStage(ConvolutionStage):
    """The convolution after the trunk, which joins the trunk's input again."""

    def __init__(self, conv: nn.Conv2d, workspace: Workspace, convolve: Convolver, lag: int, skip: SkipPath) -> None:
        super().__init__(conv, workspace, convolve, lag)
        self._skip = skip

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        return self._skip.add_to(super().__call__(rows, last), 1.0)


def stages_of(net: RRDBNet, workspace: Workspace, convolve: Convolver) -> list[Stage]:
    """Divide the network into stages: what is `entering` into the first, float32 that is `leaving` out of the last."""
    skip = SkipPath(BLOCK_LAG * len(net.body) + 1)
    first = ConvolutionStage(net.conv_first, workspace, convolve, 0)
    lag = first.lag_after
    blocks = [block for block in net.body if isinstance(block, RRDB)]
    trunk = [BlockStage(block, workspace, convolve, lag + number * BLOCK_LAG) for number, block in enumerate(blocks)]
    closing = ClosingStage(net.conv_body, workspace, convolve, lag + BLOCK_LAG * len(blocks), skip)
    stages: list[Stage] = [first, EnteringStage(lag, skip), *trunk, closing]
    lag = closing.lag_after
    convolutions = (*net.upsampling, net.conv_hr, net.conv_last)
    for conv, factor in zip(convolutions, (*net.config.enlargements, 1, 1), strict=True):
        stage = ConvolutionStage(conv, workspace, convolve, lag, active=conv is not net.conv_last, factor=factor)
        stages.append(stage)
        lag = stage.lag_after
    return stages


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
    last_row = config.channels * exact * (sides[-1] * width + 2)
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
    if sizes is not None:
        seen = (sizes // config.unshuffle).repeat_interleave(config.passes, dim=0)
        padding = Padding(seen, rows.shape[2], rows.shape[3], config.padding_mode)
        convolve = PaddedConvolver(convolve, padding)
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
