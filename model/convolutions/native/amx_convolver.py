"""Run the convolutions of networks in bfloat16 on AMX."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import Convolver, Epilogue, allocate_result
from model.convolutions.native import amx
from model.convolutions.native.amx import MAX_STEPS, Packed
from model.convolutions.native.amx_blocks import AmxBlockStage
from model.convolutions.native.amx_tail import AmxTailStage
from model.rrdb import RRDB, RRDBNet
from model.stage import Stage
from model.workspace import Workspace, rows_like


class AmxConvolver(Convolver):
    """Runs convolutions of bfloat16 windows with amx.c, and those that it does not support with another convolver.

    Args:
        portable: use plain C instead of AMX: slow, on any processor, with the same bits.
    """

    name = "amx"

    def __init__(self, other: Convolver, *, portable: bool = False) -> None:
        self._other = other
        self._portable = portable
        self._packed: dict[tuple[nn.Conv2d, int], Packed] = {}
        self._twice: dict[nn.Conv2d, Packed] = {}

    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """See `Convolver`."""
        exact = conv.weight.dtype is torch.float32
        plain = not (then.active or then.residual or then.target is not None)
        if window.shape[2] < 3 or not self._takes(window, window.shape[1]) or (exact and not plain):
            return self._other.convolve(conv, window, then)
        run = partial(amx.convolve, window, portable=self._portable)
        if exact:
            twice = rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, 2 * conv.out_channels, torch.float32)
            run(self._pack_twice(conv), exact=twice)
            rounded, rest = twice.chunk(2, dim=1)
            return rounded + rest
        packed, slope, residual = self._pack(conv), then.slope, then.residual
        if then.skip is not None:
            run(packed, exact=then.skip, skip=then.skip, negative_slope=slope, scaling=residual)
            return then.skip
        target = allocate_result(conv, window) if then.target is None else then.target
        own = window[:, : conv.out_channels, 1:-1, 1:-1] if residual else None
        run(packed, made=target, skip=own, negative_slope=slope, scaling=residual or 1.0)
        return target

    def block_stage(self, block: RRDB, workspace: Workspace, lag: int) -> Stage | None:
        """See `Convolver`."""
        own = [conv for conv in block.modules() if isinstance(conv, nn.Conv2d)]
        if not all(self._takes(conv.weight, conv.in_channels) for conv in own):
            return None
        return AmxBlockStage(block, workspace, self._pack, lag, portable=self._portable)

    def tail_stage(self, net: RRDBNet, workspace: Workspace, lag: int) -> Stage | None:
        """See `Convolver`."""
        own, factors = (*net.upsampling, net.conv_hr), (*net.config.enlargements, 1, 1)
        if len(factors) > MAX_STEPS or not all(self._takes(conv.weight, conv.in_channels) for conv in own):
            return None
        packed = [*map(self._pack, own), self._pack_twice(net.conv_last)]
        repeats = net.config.padding_mode == "replicate"
        return AmxTailStage(packed, factors, workspace, lag, repeats=repeats, portable=self._portable)

    def _takes(self, tensor: Tensor, channels: int) -> bool:
        """Check if amx.c can convolve this number of channels, in the format and on the device of a tensor."""
        takes = tensor.dtype is torch.bfloat16 and tensor.device.type == "cpu" and channels % 2 == 0
        return takes and (self._portable or amx.available())

    def _pack(self, conv: nn.Conv2d, in_channels: int | None = None) -> Packed:
        """Pack weights for a number of input channels, by default the convolution's; the others are zero."""
        key = conv, in_channels or conv.in_channels
        if key not in self._packed:
            weight = conv.weight.detach()
            self._packed[key] = Packed(functional.pad(weight, (0, 0, 0, 0, 0, key[1] - conv.in_channels)), conv.bias)
        return self._packed[key]

    def _pack_twice(self, conv: nn.Conv2d) -> Packed:
        """Pack float32 weights as the sum of two in bfloat16, with twice as many output channels."""
        if conv not in self._twice:
            weight = conv.weight.detach().float()
            halves = torch.cat((weight.bfloat16().float(), weight - weight.bfloat16().float()))
            bias = (
                torch.zeros(len(halves)) if conv.bias is None else functional.pad(conv.bias.float(), (0, len(weight)))
            )
            self._twice[conv] = Packed(halves, bias)
        return self._twice[conv]
