"""The U-Net discriminator in C: one forward pass for the losses of both networks."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.discriminator import NEGATIVE_SLOPE, UNetDiscriminator, Verdicts
from training.native.conv import Conv, Gradients
from training.native.library import (
    CHUNK,
    MAX_CHANNELS,
    Buffers,
    ConvWork,
    Instructions,
    MapsWork,
    framed,
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


class DiscriminatorPass:
    """One forward pass over upscaled and high-res pictures, and a backward pass from each loss."""

    def __init__(
        self, buffers: Buffers, weights: list[Tensor], biases: list[Tensor], upscaled: Tensor, high_res: Tensor
    ) -> None:
        self.buffers, self.weights, self.biases = buffers, weights, biases
        self.images, _, self.height, self.width = upscaled.shape
        self.layers: list[tuple[Conv, ConvWork]] = []
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

    def back(self, gradient: Tensor, *, to_weights: bool) -> tuple[Tensor, list[Gradients]]:
        """Propagate the gradient of the verdicts on the first pictures back to these pictures, or to the weights."""
        self.buffers.check(self.number)
        number = len(gradient)
        for _, work in self.layers:
            work.images = number
        found: list[Gradients] = []
        last = self._zeros("gradient of verdict", 0, CHUNK)[:number]
        framed(last, self.height, self.width)[..., :1] = gradient.permute(0, 2, 3, 1)
        layers = list(self.layers)

        def through(behind: Tensor, name: str) -> Tensor:
            conv, work = layers.pop()
            below = self._zeros(f"gradient below {name}", self._depth(work), conv.inputs)
            if to_weights:
                found.insert(0, conv.back(self.buffers, work, behind, below=below))
            else:
                conv.back_to_maps(self.buffers, work, behind, below=below)
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
        ((conv, work),) = layers
        carry = torch.zeros(number, span(self.height, self.width), CHUNK)
        if to_weights:
            found.insert(0, conv.back(self.buffers, work, behind))
        else:
            conv.back_to_maps(self.buffers, work, behind, carry=carry)
        return framed(carry, self.height, self.width)[..., :3].permute(0, 3, 1, 2), found

    def _convolve(
        self, maps: Tensor, depth: int, name: str, *, in_slope: float = 1, picture: Tensor | None = None
    ) -> Tensor:
        bias = self.biases[name == "verdict"] if name in ("first", "verdict") else None
        conv = Conv(self.weights[len(self.layers)], bias)
        made = None if picture is not None else self._zeros(name, depth, conv.outputs)
        work = conv.forward(
            self.buffers,
            maps,
            made,
            images=2 * self.images,
            height=self.height >> depth,
            width=self.width >> depth,
            slope=NEGATIVE_SLOPE,
            in_slope=in_slope,
            **({} if picture is None else {"picture": picture.data_ptr(), "colours": 1}),
        )
        self.layers.append((conv, work))
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

    def _depth(self, work: ConvWork) -> int:
        return (self.height // int(work.height)).bit_length() - 1


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
        weights, biases = zip(*found, strict=True)
        return None, *weights, biases[0], biases[-1]
