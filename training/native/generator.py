"""Forward and backward passes of a generator in C."""

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.rrdb import NEGATIVE_SLOPE, RRDB, RRDBConfig, RRDBNet, entering, leaving
from training.native.conv import Conv, Gradients
from training.native.library import (
    CHUNK,
    MAX_CHANNELS,
    TILE,
    Buffers,
    ConvWork,
    Instructions,
    TrunkWork,
    framed,
    padded_to_chunks,
    span,
)


def takes(config: RRDBConfig) -> bool:
    """Return True if the channels of a generator fill tiles, and convolutions.c has room for them."""
    return (
        config.channels % CHUNK == 0
        and config.growth % TILE == 0
        and config.channels + 4 * config.growth <= MAX_CHANNELS
        and config.inputs * config.unshuffle**2 <= CHUNK
    )


class NativeGenerator(nn.Module):
    """Runs the forward and backward passes of a generator; holds no weights of its own.

    Args:
        instructions: one of `available`.
    """

    def __init__(self, net: RRDBNet, instructions: Instructions) -> None:
        super().__init__()
        self._net = [net]  # in a list, so that its weights are not registered twice
        self.feature_buffers = Buffers(instructions)

    def forward(self, low: Tensor) -> Tensor:
        """Upscale like the network: float RGB (N, 3, H, W) -> float32 (N, 3, scale * H, scale * W)."""
        (net,) = self._net
        height, width = (net.config.scale * side for side in low.shape[2:])
        weights = [parameter for conv in _convs(net) for parameter in (conv.weight, conv.bias)]
        made = _Passes.apply(entering(low, net.config), self, *weights)
        return leaving(made, net.config)[:, :, :height, :width]


def _convs(net: RRDBNet) -> list[nn.Conv2d]:
    """All convolutions, in the order in which they run."""
    return [net.conv_first, *_dense_convs(net), net.conv_body, *net.upsampling, net.conv_hr, net.conv_last]


def _dense_convs(net: RRDBNet) -> list[nn.Conv2d]:
    blocks = cast(Sequence[RRDB], net.body)
    return [conv for block in blocks for dense in block.dense_blocks for conv in dense.convolutions]


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, low: Tensor, native: NativeGenerator, *parameters: Tensor) -> Tensor:
        ctx.passes = _GeneratorPass(low, native, parameters)
        return cast(Tensor, ctx.passes.forward())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        passes = ctx.passes
        ctx.passes = None  # its maps are freed with this pass
        return None, None, *passes.backward(gradient)


class _GeneratorPass:
    """One forward pass of a generator, with all that its backward pass needs."""

    def __init__(self, low: Tensor, native: NativeGenerator, parameters: Sequence[Tensor]) -> None:
        (net,) = native._net
        self.net = net
        pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
        self.outer = [pairs[0], *pairs[-3 - len(net.config.enlargements) :]]  # of convolutions outside the trunk
        self.images, _, self.height, self.width = low.shape
        self.channels = net.config.channels
        self.replicate = net.config.padding_mode == "replicate"
        self.layers: list[tuple[Conv, ConvWork]] = []
        self.buffers = native.feature_buffers
        self.number = self.buffers.begin(self.height, self.width)
        maps = self.buffers.zeros("low", self.images, span(self.height, self.width), CHUNK)
        inside = framed(maps, self.height, self.width, border=1)
        if self.replicate:
            low = nn.functional.pad(low, [1] * 4, mode="replicate")
        else:
            inside = framed(maps, self.height, self.width)
        inside[..., : low.shape[1]] = low.permute(0, 2, 3, 1)
        self.low = maps

    def forward(self) -> Tensor:
        trunk = self._trunk()
        features, made, enlargements = self.features[0], self.made, self.net.config.enlargements
        self._convolve(self.low, features, self.height, self.width)
        self.buffers.run("trunk_forward", trunk)
        residual = {"residual": features.data_ptr(), "residual_pixel": features.shape[-1]}
        height, width = self.height, self.width
        for number, factor in enumerate((1, *enlargements, 1)):
            height, width = height * factor, width * factor
            into = self.buffers.zeros(f"made {number}", self.images, span(height, width), self.channels)
            slopes = {"slope": NEGATIVE_SLOPE if number else 1, "in_slope": NEGATIVE_SLOPE if number > 1 else 1}
            self._convolve(made, into, height, width, enlarge=factor, **slopes, **({} if number else residual))
            made = into
        picture = torch.empty(self.images, height, width, self.net.config.colours)
        colours = {"picture": picture.data_ptr(), "colours": picture.shape[-1]}
        self._convolve(made, None, height, width, in_slope=NEGATIVE_SLOPE, **colours)
        return picture.permute(0, 3, 1, 2)

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """Gradients of the parameters, in their order."""
        self.buffers.check(self.number)
        images, channels = self.images, self.channels
        first, body, *tail = self.layers
        conv, last = tail[-1]
        maps = self.buffers.zeros("last", images, span(last.height, last.width), conv.outputs)
        framed(maps, last.height, last.width)[..., : gradient.shape[1]] = gradient.permute(0, 2, 3, 1)
        outer: list[Gradients] = []
        for number, (conv, work) in reversed(list(enumerate(tail))):
            size = span(work.height // work.enlarge, work.width // work.enlarge)
            below = self.buffers.zeros(f"{number}", images, size, channels)
            outer.insert(0, conv.back(self.buffers, work, maps, below=below))
            maps = below
        carry = torch.zeros(images, span(self.height, self.width), channels)
        outer.insert(0, body[0].back(self.buffers, body[1], maps, carry=carry))
        dense = self._trunk_backward(carry)
        carry += maps
        before = first[0].back(self.buffers, first[1], carry.bfloat16())
        return [one for pair in (before, *dense, *outer) for one in pair]

    def _convolve(self, maps: Tensor, made: Tensor | None, height: int, width: int, **fields: float) -> None:
        conv = Conv(*self.outer[len(self.layers)])
        size = {"images": self.images, "height": height, "width": width}
        work = conv.forward(self.buffers, maps, made, **size, replicate=self.replicate, **fields)
        self.layers.append((conv, work))

    def _trunk(self) -> TrunkWork:
        net, config = self.net, self.net.config
        blocks, channels, growth = 3 * config.blocks, config.channels, config.growth
        size = span(self.height, self.width)
        wide = channels + 4 * growth
        self.features = self.buffers.zeros("features", blocks, self.images, size, wide)
        self.made = self.buffers.zeros("trunk", self.images, size, channels)
        dense = _dense_convs(net)
        self.sizes = [(conv.out_channels, conv.in_channels) for conv in dense[:5]]
        self.weights = [_rows(conv.weight) for conv in dense]
        tiles = sum(9 * padded_to_chunks(inputs) * outputs for outputs, inputs in self.sizes)
        self.packed = torch.empty(2, blocks, tiles, dtype=torch.bfloat16)
        self.pointers = [
            (ctypes.c_void_p * len(dense))(*(one.data_ptr() for one in tensors))
            for tensors in (self.weights, [cast(Tensor, conv.bias) for conv in dense])
        ]
        self.trunk = TrunkWork(
            images=self.images,
            height=self.height,
            width=self.width,
            channels=channels,
            growth=growth,
            blocks=blocks,
            replicate=self.replicate,
            packed_block=tiles,
            gradients_block=sum(outputs * (9 * inputs + 1) for outputs, inputs in self.sizes),
            weights=ctypes.addressof(self.pointers[0]),
            biases=ctypes.addressof(self.pointers[1]),
            packed=self.packed[0].data_ptr(),
            mirrored=self.packed[1].data_ptr(),
            features=self.features.data_ptr(),
            made=self.made.data_ptr(),
        )
        return self.trunk

    def _trunk_backward(self, carry: Tensor) -> list[Gradients]:
        trunk = self.trunk
        outer = torch.empty_like(carry)
        workers = min(torch.get_num_threads(), self.images)  # the other threads have no image
        gradients = torch.zeros(workers, trunk.blocks, trunk.gradients_block)
        trunk.carry, trunk.outer, trunk.gradients = carry.data_ptr(), outer.data_ptr(), gradients.data_ptr()
        self.buffers.run("trunk_backward", trunk)
        summed = gradients.sum(0) if workers > 1 else gradients[0]
        weights = [outputs * 9 * inputs for outputs, inputs in self.sizes]
        pieces = [row.split([*weights, *(outputs for outputs, _ in self.sizes)]) for row in summed]
        return [
            (row[at].view(outputs, 3, 3, inputs).permute(0, 3, 1, 2), row[5 + at])
            for row in pieces
            for at, (outputs, inputs) in enumerate(self.sizes)
        ]


def _rows(weight: Tensor) -> Tensor:
    return weight.detach().permute(0, 2, 3, 1).contiguous()
