"""The parts of a generator that rows go through one after the other: convolutions, dense blocks, and the skips between.

A stage works in a buffer that all stages share: its halo rows in front, the new rows behind them. In a dense block each
convolution writes its channels behind those before it, so nothing is concatenated. Between two bands only halo rows and
waiting rows are kept, in memory that is allocated once.

A convolution that works in tiles of rows rounds a row a little differently in another place of a tile. So each
convolution counts its rows from one fixed place, its *grid*: the rows by which it stays behind the picture, before the
picture's first. Bands of a multiple of `GRID_ROWS` end where tiles end, in every stage, and the result does not depend
on how high they are.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from model.convolutions.convolver import Convolver
from model.convolutions.fused import FusedConvolver
from model.rrdb import RESIDUAL_SCALING, RRDB, ResidualDenseBlock, RRDBNet
from model.workspace import SkipPath, Window, Workspace

DENSE_LAG = 5
"""Rows by which the output of a dense block stays behind its input: one for each of its convolutions."""

BLOCK_LAG = 3 * DENSE_LAG

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
        dtype: number format of its window; None for that of its weights.
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
        dtype: torch.dtype | None = None,
    ) -> None:
        self.lag, self.row = lag, 0
        self._conv = conv
        self._window = Window(workspace, conv, most_kept=2, dtype=dtype, padded=reads_border(convolve, conv))
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

    Args:
        owned: no one else reads the rows that come in.
    """

    def __init__(
        self, block: ResidualDenseBlock, workspace: Workspace, convolve: Convolver, lag: int, *, owned: bool
    ) -> None:
        self.lag, self.row = lag, 0
        self._growing = block.growing
        self._closing = block.conv5
        self._channels = block.conv1.in_channels
        self._growth = block.conv1.out_channels
        padded = any(reads_border(convolve, conv) for conv in (*block.growing, block.conv5))
        self._window = Window(workspace, block.conv5, most_kept=DENSE_LAG + 1, padded=padded)
        self._convolve = convolve
        self._owned = owned
        self._skip = SkipPath(DENSE_LAG) if block.conv5.weight.dtype is torch.bfloat16 else None
        self._filled = [1] * DENSE_LAG
        """Rows in the buffer, of the input and of each growing convolution's output; the first is the one above."""

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        planes, _, height, width = rows.shape
        if self._skip is not None:
            self._skip.put(rows, owned=self._owned)
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
            residual=RESIDUAL_SCALING,
            skip=None if self._skip is None else self._skip.take(max(0, seen.shape[2] - 2)),
            grid_row=self._window.first_row + 1 + self.lag + DENSE_LAG,
        )
        if not last:
            done = made.shape[2]
            self._window.keep(features, done)
            self._filled = [filled - done for filled in self._filled]
        return made

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
            DenseStage(dense, workspace, convolve, lag + number * DENSE_LAG, owned=number > 0)
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


def reads_border(convolve: Convolver, conv: nn.Conv2d) -> bool:
    """Tell if the border of a convolution's window has to be written."""
    return not isinstance(convolve, FusedConvolver) or convolve.reads_border(conv)


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
        active = conv is not net.conv_last
        rounded = net.conv_hr.weight.dtype  # what the last convolution reads, though its weights are float32
        stage = ConvolutionStage(conv, workspace, convolve, lag, active=active, factor=factor, dtype=rounded)
        stages.append(stage)
        lag = stage.lag_after
    return stages
