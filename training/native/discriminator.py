"""The U-Net discriminator in C: one forward pass for the losses of both networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.discriminator import NEGATIVE_SLOPE, UNetDiscriminator, Verdicts
from training.native.library import (
    CHUNK,
    MAX_CHANNELS,
    Buffers,
    ConvWork,
    Instructions,
    MapsWork,
    framed,
    laid_out,
    span,
)


def takes(net: nn.Module) -> bool:
    """Return True for a discriminator that `NativeDiscriminator` runs."""
    return (
        isinstance(net, UNetDiscriminator)
        and net.first.out_channels % CHUNK == 0
        and 8 * net.first.out_channels <= MAX_CHANNELS
    )


class NativeDiscriminator:
    """Runs a U-Net discriminator; holds no weights of its own.

    Args:
        instructions: one of `available`.
    """

    def __init__(self, net: UNetDiscriminator, instructions: Instructions) -> None:
        self.net = net
        self.buffers = Buffers(instructions)

    def __call__(self, upscaled: Tensor, high_res: Tensor) -> tuple[Verdicts, Verdicts]:
        """Judge pictures, as `Judge` says; their sides are multiples of 8. Updates the spectral norms once."""
        net = self.net
        down, up, judge = (cast(Sequence[nn.Conv2d], part) for part in (net.down, net.up, net.judge))
        weights = [
            net.first.weight,
            *(as_squares(conv.weight) for conv in down),
            *(conv.weight for conv in (*up, *judge)),
            net.verdict.weight,
        ]
        biases = [cast(Tensor, net.first.bias), cast(Tensor, net.verdict.bias)]
        made = DiscriminatorPass(self.buffers, weights, biases, upscaled.detach(), high_res)
        return (made.of_high_res, made.of_upscaled(upscaled)), made.of_both()


def as_squares(weight: Tensor) -> Tensor:
    """Convert the weights of a 4 x 4 convolution of stride 2 to squares of pixels: (O, C, 4, 4) -> (O, 4 C, 3, 3).

    It is a 3 x 3 convolution over squares of 2 x 2 pixels: the kernel with a border of zeros is 3 x 3 such squares.
    """
    padded = functional.pad(weight, [1] * 4)
    squares: Tensor = padded.unflatten(3, (3, 2)).unflatten(2, (3, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    return squares


@dataclass
class _Layer:
    conv: ConvWork
    rows: Tensor
    bias: Tensor
    packed: Tensor
    made: Tensor | None
    shape: torch.Size


class DiscriminatorPass:
    """One forward pass over upscaled and high-res pictures, and a backward pass from each loss."""

    def __init__(
        self, buffers: Buffers, weights: list[Tensor], biases: list[Tensor], upscaled: Tensor, high_res: Tensor
    ) -> None:
        self.buffers, self.weights, self.biases = buffers, weights, biases
        self.images, _, self.height, self.width = upscaled.shape
        self.layers: list[_Layer] = []
        self.number = buffers.begin(self.height, self.width)
        with torch.no_grad():
            self.verdicts = self._forward(torch.cat((upscaled, high_res)))

    @property
    def of_high_res(self) -> Tensor:
        """Verdicts on the high-res pictures, (N, 1, H, W), without a gradient."""
        return self.verdicts[self.images :]

    def of_upscaled(self, upscaled: Tensor) -> Tensor:
        """Verdicts on the upscaled pictures, (N, 1, H, W); the gradient is that of the pictures."""
        return cast(Tensor, _OfUpscaled.apply(upscaled, self))

    def of_both(self) -> Verdicts:
        """Verdicts on high-res and upscaled pictures; the gradient is that of the weights."""
        verdicts: Tensor = _OfBoth.apply(self, *self.weights, *self.biases)
        return verdicts[self.images :], verdicts[: self.images]

    def _forward(self, pictures: Tensor) -> Tensor:
        height, width = self.height, self.width
        maps = self._zeros("pictures", 0, CHUNK)
        framed(maps, height, width)[..., :3] = pictures.permute(0, 2, 3, 1)
        self.skips = [self._convolve(maps, 0, "first")]
        for depth in range(3):
            squares = self._zeros(f"squares {depth}", depth + 1, 4 * self.skips[-1].shape[-1])
            self._map("shuffle", depth, self.skips[-1].shape[-1], self.skips[-1], made=squares)
            self.skips.append(self._convolve(squares, depth + 1, f"down {depth}"))
        features, skip = self.skips[3], None
        self.ups: list[Tensor] = []
        for depth in (2, 1, 0):
            larger = self._zeros(f"larger {depth}", depth, features.shape[-1])
            self._map("enlarge", depth, features.shape[-1], features, skip, made=larger)
            features, skip = self._convolve(larger, depth, f"up {depth}"), self.skips[depth]
            self.ups.append(features)
        joined = self._zeros("joined", 0, features.shape[-1])
        self._map("join", 0, features.shape[-1], features, skip, made=joined)
        judged = self._convolve(joined, 0, "judge 0", in_slope=1)
        judged = self._convolve(judged, 0, "judge 1", in_slope=NEGATIVE_SLOPE)
        verdicts = torch.empty(2 * self.images, height, width, 1)
        self._convolve(judged, 0, "verdict", in_slope=NEGATIVE_SLOPE, picture=verdicts)
        return verdicts.permute(0, 3, 1, 2)

    def back(self, gradient: Tensor, *, to_weights: bool) -> tuple[Tensor, list[Tensor]]:
        """Propagate the gradient of the verdicts on the first pictures back to these pictures, or to the weights."""
        self.buffers.check(self.number)
        number = len(gradient)
        for layer in self.layers:
            layer.conv.images = number
        found: list[Tensor] = []
        last = self._zeros("gradient of verdict", 0, CHUNK)[:number]
        framed(last, self.height, self.width)[..., :1] = gradient.permute(0, 2, 3, 1)
        layers = list(self.layers)

        def through(behind: Tensor, name: str) -> Tensor:
            layer = layers.pop()
            below = self._zeros(f"gradient below {name}", self._depth(layer), layer.conv.in_channels)
            found.insert(0, self._layer_back(layer, behind, to_weights=to_weights, below=below))
            return below

        behind = through(through(through(last, "verdict"), "judge 1"), "judge 0")
        skipped = []
        for depth in (0, 1, 2):
            up = self.ups[2 - depth]
            masked = self._zeros(f"gradient of up {depth}", depth, up.shape[-1])
            self._map("join", depth, up.shape[-1], behind, made=masked, of=up, images=number)
            skipped.append(behind)
            larger = through(masked, f"up {depth}")
            behind = self._zeros(f"gradient of larger {depth}", depth + 1, larger.shape[-1])
            of = self.skips[3] if depth == 2 else None
            self._map("shrink", depth, larger.shape[-1], larger, made=behind, of=of, images=number)
        for depth in (2, 1, 0):
            squares = through(behind, f"down {depth}")
            skip = self.skips[depth]
            behind = self._zeros(f"gradient of skip {depth}", depth, skip.shape[-1])
            self._map("unshuffle", depth, skip.shape[-1], squares, skipped[depth], behind, of=skip, images=number)
        first = layers.pop()
        carry = torch.zeros(number, span(self.height, self.width), CHUNK)
        found.insert(0, self._layer_back(first, behind, to_weights=to_weights, carry=None if to_weights else carry))
        return framed(carry, self.height, self.width)[..., :3].permute(0, 3, 1, 2), found

    def gradients(self, found: list[Tensor]) -> list[Tensor]:
        """Cut the gradients of weights and biases out of those of the layers."""
        weights, biases = [], []
        for layer, flat in zip(self.layers, found, strict=True):
            outputs, inputs = layer.conv.out_channels, layer.conv.in_channels
            rows = flat[: 9 * outputs * inputs].view(outputs, 3, 3, inputs).permute(0, 3, 1, 2)
            weights.append(rows[: layer.shape[0], : layer.shape[1]])
            biases.append(flat[9 * outputs * inputs :][: layer.shape[0]])
        return [*weights, biases[0], biases[-1]]

    def _layer_back(
        self,
        layer: _Layer,
        behind: Tensor,
        *,
        to_weights: bool,
        below: Tensor | None = None,
        carry: Tensor | None = None,
    ) -> Tensor:
        conv = layer.conv
        workers = min(torch.get_num_threads(), conv.images)  # the other threads have no image
        flat = torch.zeros(workers, conv.out_channels * (9 * conv.in_channels + 1)) if to_weights else torch.zeros(1, 0)
        conv.gradients = flat.data_ptr() if to_weights else None
        conv.gradient = behind.data_ptr()
        conv.in_gradient = None if below is None else below.data_ptr()
        conv.carry = None if carry is None else carry.data_ptr()
        self.buffers.run("conv_backward", conv)
        return flat.sum(0)

    def _convolve(
        self, maps: Tensor, depth: int, name: str, *, in_slope: float = 1, picture: Tensor | None = None
    ) -> Tensor:
        weight = self.weights[len(self.layers)]
        rows = laid_out(weight)
        outputs, inputs = rows.shape[0], rows.shape[3]
        bias = torch.zeros(outputs)
        if name in ("first", "verdict"):
            bias[: weight.shape[0]] = self.biases[name == "verdict"].detach()
        packed = torch.empty(2, rows.numel(), dtype=torch.bfloat16)
        made = None if picture is not None else self._zeros(name, depth, outputs)
        conv = ConvWork(
            images=2 * self.images,
            height=self.height >> depth,
            width=self.width >> depth,
            enlarge=1,
            in_channels=inputs,
            out_channels=outputs,
            slope=NEGATIVE_SLOPE,
            in_slope=in_slope,
            in_pixel=inputs,
            made_pixel=outputs,
            weights=rows.data_ptr(),
            bias=bias.data_ptr(),
            packed=packed[0].data_ptr(),
            mirrored=packed[1].data_ptr(),
            features=maps.data_ptr(),
            made=None if made is None else made.data_ptr(),
        )
        if picture is not None:
            conv.picture, conv.colours = picture.data_ptr(), 1
        self.buffers.run("conv_forward", conv)
        self.layers.append(_Layer(conv, rows, bias, packed, made, weight.shape))
        return maps if made is None else made

    def _map(
        self,
        name: str,
        depth: int,
        channels: int,
        first: Tensor,
        second: Tensor | None = None,
        made: Tensor | None = None,
        of: Tensor | None = None,
        images: int | None = None,
    ) -> None:
        pointers = [None if one is None else one.data_ptr() for one in (first, second, of, made)]
        size = self.height >> depth, self.width >> depth
        self.buffers.run(
            f"maps_{name}", MapsWork(images or 2 * self.images, *size, channels, *pointers, NEGATIVE_SLOPE)
        )

    def _zeros(self, name: str, depth: int, channels: int) -> Tensor:
        return self.buffers.zeros(name, 2 * self.images, span(self.height >> depth, self.width >> depth), channels)

    def _depth(self, layer: _Layer) -> int:
        return (self.height // int(layer.conv.height)).bit_length() - 1


class _OfUpscaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, upscaled: Tensor, discriminator_pass: DiscriminatorPass) -> Tensor:
        ctx.discriminator_pass = discriminator_pass
        return discriminator_pass.verdicts[: discriminator_pass.images].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.discriminator_pass.back(gradient, to_weights=False)[0], None


class _OfBoth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, discriminator_pass: DiscriminatorPass, *weights: Tensor) -> Tensor:
        ctx.discriminator_pass = discriminator_pass
        return discriminator_pass.verdicts.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        discriminator_pass = ctx.discriminator_pass
        _, found = discriminator_pass.back(gradient, to_weights=True)
        return None, *discriminator_pass.gradients(found)
