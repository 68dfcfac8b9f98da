"""The stages of a generator, through which rows go one after the other: convolutions, dense blocks, skip connections.

A stage works in a buffer that all stages share: its halo rows first, then the new rows. In a dense block each
convolution writes its channels after those before it, so nothing is concatenated. Between bands only halo rows and
waiting rows are kept, in memory that is allocated once.

A convolution that works in tiles of rows rounds a row slightly differently at another position in a tile. So each
convolution has a fixed *grid*, which begins before the first row of the picture, by the number of rows that the
convolution stays behind. Bands of a multiple of `GRID_ROWS` end at the end of a tile in every stage, so the result does
not depend on their height.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.convolutions.convolver import Convolver
from model.rrdb import RESIDUAL_SCALING, ResidualDenseBlock
from model.stage import Stage
from model.workspace import SkipPath, Window, Workspace

DENSE_LAG = 5
"""Rows by which the output of a dense block stays behind its input: one for each convolution."""

BLOCK_LAG = 3 * DENSE_LAG

GRID_ROWS = 4
"""Rows of a tile of convolutions that work in tiles; bands of a multiple of it have the same results, bit for bit."""


class ConvolutionStage:
    """One convolution.

    Args:
        lag: see `Stage`.
        active: apply the LeakyReLU.
        factor: factor of the nearest-neighbour enlargement before it.
        dtype: number format of its window; None for that of its weights.
        wraps: the columns of the picture are a ring.
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
        wraps: bool = False,
    ) -> None:
        self.lag, self.row = lag, 0
        self._conv = conv
        padded = convolve.reads_border(conv)
        self._window = Window(workspace, conv, most_kept=2, dtype=dtype, padded=padded, wraps=wraps)
        self._convolve = convolve
        self._active = active
        self._factor = factor

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
        grid_row = self._window.first_row + 1 + self._factor * self.lag + 1
        made = self._convolve(self._conv, buffer, active=self._active, grid_row=grid_row)
        if not last:
            self._window.keep(buffer, max(0, buffer.shape[2] - 2))
        return made


class DenseStage:
    """A residual dense block. Its convolutions run in their own number format.

    The input waits for its residual in the window; of a format that would round it away, it waits in float32 instead.

    Args:
        owned: the input rows are not used elsewhere.
        wraps: the columns of the picture are a ring.
    """

    def __init__(
        self,
        block: ResidualDenseBlock,
        workspace: Workspace,
        convolve: Convolver,
        lag: int,
        *,
        owned: bool,
        wraps: bool = False,
    ) -> None:
        self.lag, self.row = lag, 0
        self._growing = block.growing
        self._closing = block.conv5
        self._channels = block.conv1.in_channels
        self._growth = block.conv1.out_channels
        padded = any(convolve.reads_border(conv) for conv in block.convolutions)
        self._window = Window(workspace, block.conv5, most_kept=DENSE_LAG + 1, padded=padded, wraps=wraps)
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
        """Run a convolution on the available rows; it writes into its channels of the buffer."""
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

    def __init__(self, dense: Sequence[Stage], skip: SkipPath) -> None:
        self.lag, self.row = dense[0].lag, 0
        self._dense = dense
        self._skip = skip

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        self._skip.put(rows)
        for dense in self._dense:
            rows = dense(rows, last)
        return self._skip.add_to(rows, RESIDUAL_SCALING)


class EnteringStage:
    """The beginning of the trunk, which also keeps the rows for the end of the trunk."""

    def __init__(self, lag: int, skip: SkipPath) -> None:
        self.lag, self.row = lag, 0
        self._skip = skip

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        trunk_rows = rows.float()
        self._skip.put(trunk_rows)
        return trunk_rows


class ClosingStage:
    """The convolution after the trunk, whose result is added to the trunk's input."""

    def __init__(self, convolution: Stage, skip: SkipPath) -> None:
        self.lag, self.row = convolution.lag, 0
        self._convolution = convolution
        self._skip = skip

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        return self._skip.add_to(self._convolution(rows, last), 1.0)
