"""The end of a generator on AMX: enlargements and all convolutions after the trunk in a call of amx.c."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.convolutions.native import amx
from model.convolutions.native.amx import Packed
from model.rrdb import NEGATIVE_SLOPE
from model.workspace import Workspace, in_order

PIECE_PX = 64 * 64
"""Maximum enlarged pixels in a piece for each thread, but at least one row: few, so that a core's cache holds them."""

MAX_PIECE = 16
"""Maximum rows in a piece, before they are enlarged."""


class AmxTailStage:
    """Enlarges rows by nearest neighbour and convolves them, several times: a `model.stage.Stage`.

    Args:
        packed: weights of the convolutions; the last one has the output channels twice, and both results are added.
        factors: enlargement before each convolution.
        repeats: the padding repeats the border, instead of zeros.
        lag: see `Stage`.
        portable: use plain C instead of AMX.
    """

    def __init__(
        self,
        packed: Sequence[Packed],
        factors: Sequence[int],
        workspace: Workspace,
        lag: int,
        *,
        repeats: bool,
        portable: bool = False,
    ) -> None:
        self.lag, self.row = lag, 0
        self._packed = packed
        self._factors = factors
        self._scale = math.prod(factors)
        self._workspace = workspace
        self._portable = portable
        self._taken = 0
        self._halos: list[Tensor] = []
        self._call = amx.Tail(
            channels=packed[0].in_channels,
            colours=packed[-1].out_channels // 2,
            count=len(packed),
            repeats=repeats,
            negative_slope=NEGATIVE_SLOPE,
        )

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        call = self._call
        rows = in_order(rows)
        planes, _, height, width = rows.shape
        assert height or not last, "the last call needs rows"
        if not self._halos:
            self._begin(planes, width)
        before, self._taken = self._complete(self._taken, False), self._taken + height
        made = torch.empty(planes, self._complete(self._taken, last) - before, self._scale * width, call.colours)
        call.rows, call.rows_plane = rows.data_ptr(), rows.stride(0)
        call.made, call.made_plane = made.data_ptr(), made.stride(0)
        call.height, call.ends = height, last
        self._place_windows(rows)
        amx.run("amx_tail", call, self._portable)
        return made.permute(0, 3, 1, 2)

    def _begin(self, planes: int, width: int) -> None:
        """Allocate the halo rows, and choose the height of the pieces."""
        call = self._call
        call.planes, call.width = planes, width
        rows_of_piece = PIECE_PX * torch.get_num_threads() // (planes * self._scale**2 * width)
        call.piece = max(1, min(MAX_PIECE, rows_of_piece))
        rows, side = call.piece, 1
        for step, packed, factor in zip(call.steps, self._packed, self._factors, strict=False):
            rows, side = factor * rows, factor * side
            halo = torch.empty(planes, 2, side * width + 2, call.channels, dtype=torch.bfloat16)
            self._halos.append(halo)
            step.weights, step.bias, step.halo = packed.weights.data_ptr(), packed.bias.data_ptr(), halo.data_ptr()
            step.factor, step.window_rows = factor, 2 + rows + 1
            rows += 1  # the last piece has a row more after each convolution
        call.sums_plane = rows * side * width * 2 * call.colours

    def _place_windows(self, rows: Tensor) -> None:
        """Lend memory of the workspace for the call; `rows` are not in it."""
        call = self._call
        steps = [*zip(call.steps, self._halos, strict=False)]
        sizes = [step.window_rows * halo[:, 0].numel() for step, halo in steps]
        memory = self._workspace.buffer(1, 1, 1, sum(sizes), self._halos[0]).flatten()
        for (step, _), window in zip(steps, memory.split(sizes), strict=True):
            step.window = window.data_ptr()
        call.sums = self._workspace.buffer(1, 1, 1, call.planes * call.sums_plane, rows).data_ptr()

    def _complete(self, rows: int, last: bool) -> int:
        """Return the number of complete rows of the result after some have come in."""
        for factor in self._factors:
            rows = factor * rows if last else max(0, factor * rows - 1)
        return rows
