"""Forward and backward passes of a generator in C."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.rrdb import NEGATIVE_SLOPE, RRDB, RRDBConfig, RRDBNet, entering, leaving
from training.native.library import (
    CHUNK,
    MAX_CHANNELS,
    TILE,
    Buffers,
    ConvWork,
    Instructions,
    TrunkWork,
    framed,
    laid_out,
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


class _Layer:
    """A convolution outside the trunk, with its maps."""

    def __init__(self, conv: ConvWork, weight: Tensor, bias: Tensor, made: Tensor | None, *, workers: int) -> None:
        self.conv = conv
        self.weight, self.bias, self.made = weight, bias, made
        inputs, outputs = conv.in_channels, conv.out_channels
        tiles = 9 * inputs * outputs
        self.packed = torch.empty(2, tiles, dtype=torch.bfloat16)
        conv.weights, conv.bias = weight.data_ptr(), bias.data_ptr()
        conv.packed, conv.mirrored = (one.data_ptr() for one in self.packed)
        self.gradients = torch.zeros(workers, tiles + outputs)

    def gradients_of(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the gradients of the parameters, which may have fewer channels, out of the layer's."""
        gradients = self.gradients.sum(0) if len(self.gradients) > 1 else self.gradients[0]
        outputs, inputs = self.conv.out_channels, self.conv.in_channels
        weights = gradients[: 9 * inputs * outputs].view(outputs, 3, 3, inputs).permute(0, 3, 1, 2)
        return weights[: weight.shape[0], : weight.shape[1]], gradients[9 * inputs * outputs :][: len(bias)]


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, low: Tensor, native: NativeGenerator, *parameters: Tensor) -> Tensor:
        ctx.passes = _GeneratorPass(low, native, parameters)
        ctx.parameters = parameters
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
        self.net, self.parameters = net, parameters
        self.threads = torch.get_num_threads()
        self.images, _, self.height, self.width = low.shape
        self.workers = min(self.threads, self.images)  # the others have no image, so they make no gradients
        self.channels = net.config.channels
        self.replicate = net.config.padding_mode == "replicate"
        self.layers: list[_Layer] = []
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
        net, channels = self.net, self.channels
        trunk = self._trunk()
        features = self.features[0]
        wide = features.shape[-1]
        weights, biases = self.parameters[::2], self.parameters[1::2]
        dense = len(weights) - 4 - len(net.config.enlargements)
        self.first = self._layer(weights[0], biases[0], self.low, features, slope=1)
        self.buffers.run("conv_forward", self.first.conv)
        self.buffers.run("trunk_forward", trunk)
        self.tail: list[_Layer] = []
        made, height, width = self.made, self.height, self.width
        scale = math.prod(net.config.enlargements)
        picture = torch.empty(self.images, height * scale, width * scale, net.config.colours)
        for number, factor in enumerate((1, *net.config.enlargements, 1, 1)):
            height, width = height * factor, width * factor
            last = number == len(net.config.enlargements) + 2
            into = None if last else self.buffers.zeros(f"made {number}", self.images, span(height, width), channels)
            index = 1 + dense + number
            layer = self._layer(
                weights[index], biases[index], made, into, slope=NEGATIVE_SLOPE if number else 1, factor=factor
            )
            layer.conv.in_slope = NEGATIVE_SLOPE if number > 1 else 1
            if number == 0:
                layer.conv.residual, layer.conv.residual_pixel = features.data_ptr(), wide
            if last:
                layer.conv.picture, layer.conv.colours = picture.data_ptr(), picture.shape[-1]
            self.buffers.run("conv_forward", layer.conv)
            self.tail.append(layer)
            if into is not None:
                made = into
        return picture.permute(0, 3, 1, 2)

    def backward(self, gradient: Tensor) -> list[Tensor]:
        """Gradients of the parameters, in their order."""
        self.buffers.check(self.number)
        images, channels = self.images, self.channels
        last = self.tail[-1].conv
        maps = self.buffers.zeros("last", images, span(last.height, last.width), last.out_channels)
        framed(maps, last.height, last.width)[..., : gradient.shape[1]] = gradient.permute(0, 2, 3, 1)
        carry = torch.zeros(images, span(self.height, self.width), channels)
        for number in range(len(self.tail) - 1, -1, -1):
            conv = self.tail[number].conv
            conv.gradient, conv.gradients = maps.data_ptr(), self.tail[number].gradients.data_ptr()
            size = span(conv.height // conv.enlarge, conv.width // conv.enlarge)
            if number:
                below = self.buffers.zeros(f"{number}", images, size, channels)
                conv.in_gradient = below.data_ptr()
            else:
                below = maps
                conv.carry = carry.data_ptr()
            self.buffers.run("conv_backward", conv, self.threads)
            maps = below
        dense = self._trunk_backward(carry)
        carry += maps
        before = carry.bfloat16()
        self.first.conv.gradient, self.first.conv.gradients = before.data_ptr(), self.first.gradients.data_ptr()
        self.buffers.run("conv_backward", self.first.conv, self.threads)
        outer = [layer.gradients_of(*parameters) for layer, parameters in self._outer()]
        return [one for pair in (outer[0], *dense, *outer[1:]) for one in pair]

    def _outer(self) -> list[tuple[_Layer, tuple[Tensor, Tensor]]]:
        pairs = list(zip(self.parameters[::2], self.parameters[1::2], strict=True))
        return [(self.first, pairs[0]), *zip(self.tail, pairs[-len(self.tail) :], strict=True)]

    def _layer(
        self, weight: Tensor, bias: Tensor, features: Tensor, made: Tensor | None, *, slope: float, factor: int = 1
    ) -> _Layer:
        rows = laid_out(weight)
        padded = bias.detach()
        if len(padded) < len(rows):
            padded = torch.zeros(len(rows))
            padded[: len(bias)] = bias.detach()
        before = self.layers[-1].conv if self.layers else None
        conv = ConvWork(
            images=self.images,
            height=before.height * factor if before else self.height,
            width=before.width * factor if before else self.width,
            enlarge=factor,
            replicate=self.replicate,
            in_channels=rows.shape[3],
            out_channels=rows.shape[0],
            slope=slope,
            in_slope=1,
            in_pixel=features.shape[-1],
            features=features.data_ptr(),
        )
        if made is not None:
            conv.made, conv.made_pixel = made.data_ptr(), made.shape[-1]
        self.layers.append(_Layer(conv, rows, padded, made, workers=self.workers))
        return self.layers[-1]

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

    def _trunk_backward(self, carry: Tensor) -> list[tuple[Tensor, Tensor]]:
        trunk = self.trunk
        outer = torch.empty_like(carry)
        gradients = torch.zeros(self.workers, trunk.blocks, trunk.gradients_block)
        trunk.carry, trunk.outer, trunk.gradients = carry.data_ptr(), outer.data_ptr(), gradients.data_ptr()
        self.buffers.run("trunk_backward", trunk, self.threads)
        summed = gradients.sum(0) if self.workers > 1 else gradients[0]
        weights = [outputs * 9 * inputs for outputs, inputs in self.sizes]
        pieces = [row.split([*weights, *(outputs for outputs, _ in self.sizes)]) for row in summed]
        return [
            (row[at].view(outputs, 3, 3, inputs).permute(0, 3, 1, 2), row[5 + at])
            for row in pieces
            for at, (outputs, inputs) in enumerate(self.sizes)
        ]


def _rows(weight: Tensor) -> Tensor:
    return weight.detach().permute(0, 2, 3, 1).contiguous()
