"""RRDBs on AMX: one call of amx.c runs all convolutions of a block, or of all blocks of a trunk."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from model.convolutions.native import amx
from model.convolutions.native.amx import MAX_CHUNK, Packed
from model.rrdb import NEGATIVE_SLOPE, RESIDUAL_SCALING, RRDB
from model.stages import BLOCK_LAG, DENSE_LAG
from model.workspace import Workspace, in_order, rows_like

Pack = Callable[[nn.Conv2d, int], Packed]
"""Packs the weights of a convolution for a number of input channels, the last ones with weights of zero."""

PIECE_ROWS = 16
"""Rows that go through a dense block before the next ones do: few, so that a core's cache holds them."""


class AmxBlockStage:
    """An RRDB over bands of rows: a `model.stage.JoinableStage`.

    Args:
        block: in bfloat16; channels and growth are even.
        lag: see `Stage`.
        portable: use plain C instead of AMX.
    """

    def __init__(self, block: RRDB, workspace: Workspace, pack: Pack, lag: int, *, portable: bool = False) -> None:
        self.lag, self.row = lag, 0
        first, closing = block.rdb1.conv1, block.rdb1.conv5
        self._workspace = workspace
        self._portable = portable
        self._all_channels = closing.in_channels
        self._block = amx.Block()
        self._held: list[object] = []
        """Tensors to which `_block` has pointers."""
        self._call = amx.Trunk(
            channels=first.in_channels,
            growth=first.out_channels,
            piece=PIECE_ROWS,
            repeats=first.padding_mode == "replicate",
            negative_slope=NEGATIVE_SLOPE,
            scaling=RESIDUAL_SCALING,
        )
        for dense, own in zip(block.dense_blocks, self._block.dense, strict=True):
            for number, conv in enumerate(dense.convolutions):
                packed = pack(conv, self._reads(conv.in_channels))
                self._call.reads[number] = packed.in_channels
                if packed.in_channels > conv.in_channels:
                    self._call.cleared = max(self._call.cleared, packed.in_channels - first.in_channels)
                own.weights[number], own.bias[number] = packed.weights.data_ptr(), packed.bias.data_ptr()
                self._held.append(packed)

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        return self.run([self], rows, last)

    @classmethod
    def run(cls, stages: Sequence[Self], rows: Tensor, last: bool) -> Tensor:
        """See `JoinableStage`."""
        rows = in_order(rows)
        planes, _, height, width = rows.shape
        assert height or not last, "the last call needs rows"
        heights = [height]
        for stage in stages:
            stage._allocate(planes, width)
            taken = stage._block.taken
            heights.append(_complete(taken + heights[-1], last) - _complete(taken, False))
        for stage, rows_in in zip(stages[1:], heights[1:], strict=False):
            stage.row += rows_in
        made = rows_like(rows, heights[-1])
        stages[0]._run(stages, rows, last, made, max(heights))
        return made

    def _run(self, stages: Sequence[Self], rows: Tensor, last: bool, made: Tensor, most: int) -> None:
        """Run blocks, whose results have at most `most` rows."""
        planes, channels, height, width = rows.shape
        call = self._call
        buffer_rows = most + DENSE_LAG + 2  # halo rows, and one of padding
        buffer = self._workspace.buffer(planes, self._all_channels, buffer_rows, width + 2, self._bfloat16)
        between = rows.new_empty(len(call.between), planes * most * width * channels)
        call.between[:] = [part.data_ptr() for part in between]
        blocks = (ctypes.POINTER(amx.Block) * len(stages))(*(ctypes.pointer(stage._block) for stage in stages))
        call.blocks, call.count, call.buffer = blocks, len(stages), buffer.data_ptr()
        call.rows, call.rows_plane = rows.data_ptr(), rows.stride(0)
        call.made, call.made_plane = made.data_ptr(), made.stride(0)
        call.planes, call.width, call.height, call.ends = planes, width, height, last
        amx.run("amx_trunk", call, self._portable)

    def _reads(self, channels: int) -> int:
        """Round input channels up to whole chunks, unless that exceeds the channels of the buffer."""
        whole = -(-channels // MAX_CHUNK) * MAX_CHUNK
        return whole if whole <= self._all_channels else channels

    def _allocate(self, planes: int, width: int) -> None:
        """Allocate the memory between bands, before the first one."""
        block, channels = self._block, self._call.channels
        if block.waiting:
            return
        self._bfloat16 = torch.empty(0, dtype=torch.bfloat16)

        def pointer(*shape: int, dtype: torch.dtype = torch.float32) -> int:
            held = torch.empty(planes, *shape, dtype=dtype)
            self._held.append(held)
            return held.data_ptr()

        block.waiting = pointer(BLOCK_LAG, width, channels)
        for own in block.dense:
            own.waiting = pointer(DENSE_LAG, width, channels)
            own.halo = pointer(DENSE_LAG + 1, width + 2, self._all_channels, dtype=torch.bfloat16)


def _complete(taken: int, last: bool) -> int:
    """Return the number of complete rows after some have come in."""
    return taken if last else max(0, taken - BLOCK_LAG)
