"""The perceptual loss in C: VGG19 and the comparison of its features, forward and backward."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from training.distributed import mean_over_processes
from training.native.library import CHUNK, Buffers, ConvWork, FeaturesWork, Instructions, framed, laid_out, span
from training.perceptual import VGGFeatures

FeatureScale = float | Literal["relative"]


class _Layer:
    """A convolution of VGG19, packed once."""

    def __init__(self, conv: nn.Conv2d, *, wanted: bool, pooled: bool) -> None:
        self.weight = laid_out(conv.weight)
        outputs, _, _, inputs = self.weight.shape
        self.outputs, self.inputs = outputs, inputs
        self.bias = cast(Tensor, conv.bias).detach()
        self.packed = torch.empty(2, 9 * inputs * outputs, dtype=torch.bfloat16)
        self.is_packed = False
        self.wanted = wanted
        self.pooled = pooled
        """The features are halved before the next convolution."""


class NativePerceptual:
    """Computes the perceptual loss of a VGG19.

    Args:
        instructions: one of `available`.
    """

    def __init__(self, vgg: VGGFeatures, instructions: Instructions) -> None:
        self.mean, self.std = vgg.mean, vgg.std
        self.buffers = Buffers(instructions)
        modules = list(vgg.features)
        self.layers: list[_Layer] = []
        for index, module in enumerate(modules):
            if isinstance(module, nn.Conv2d):
                behind = modules[index + 2 : index + 3]
                pooled = bool(behind) and isinstance(behind[0], nn.MaxPool2d)
                self.layers.append(_Layer(module, wanted=index in vgg.wanted, pooled=pooled))

    def __call__(
        self,
        upscaled: Tensor,
        high_res: Tensor,
        *,
        weights: Sequence[float] | None = None,
        feature_scale: FeatureScale = 1.0,
    ) -> Tensor:
        """Compute `perceptual_loss` of float RGB (N, 3, H, W) in [0, 1]; the gradient flows into `upscaled` alone."""
        wanted = sum(layer.wanted for layer in self.layers)
        return cast(Tensor, _Loss.apply(upscaled, high_res, self, weights or [1.0] * wanted, feature_scale))


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        upscaled: Tensor,
        high_res: Tensor,
        perceptual: NativePerceptual,
        weights: Sequence[float],
        feature_scale: FeatureScale,
    ) -> Tensor:
        ctx.passes = _Passes(perceptual, len(upscaled), *upscaled.shape[2:])
        return cast(Tensor, ctx.passes.forward(upscaled, high_res, weights, feature_scale))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.passes.backward(float(gradient)), None, None, None, None


class _Passes:
    """One forward pass over upscaled and high-res pictures together, and the backward pass to the upscaled ones."""

    def __init__(self, perceptual: NativePerceptual, images: int, height: int, width: int) -> None:
        self.perceptual, self.images = perceptual, images
        self.height, self.width = height, width
        self.number = perceptual.buffers.begin(self.height, self.width)

    def forward(
        self, upscaled: Tensor, high_res: Tensor, weights: Sequence[float], feature_scale: FeatureScale
    ) -> Tensor:
        perceptual, images, buffers = self.perceptual, self.images, self.perceptual.buffers
        height, width = self.height, self.width
        maps = buffers.zeros("pictures", 2 * images, span(height, width), CHUNK)
        inside = framed(maps, height, width)
        for half, pictures in ((inside[:images], upscaled), (inside[images:], high_res)):
            half[..., :3] = ((pictures.detach() - perceptual.mean) / perceptual.std).permute(0, 2, 3, 1)
        self.convs: list[ConvWork] = []
        self.compared: dict[int, FeaturesWork] = {}
        self.weights: dict[int, float] = {}
        losses: list[Tensor] = []
        for number, layer in enumerate(perceptual.layers):
            made = buffers.zeros(f"{number}", 2 * images, span(height, width), layer.outputs)
            self.convs.append(self._convolve(layer, maps, made, height, width))
            maps = made
            if not (layer.wanted or layer.pooled):
                continue
            features = FeaturesWork(images=images, height=height, width=width, channels=layer.outputs)
            features.first = made.data_ptr()
            if layer.wanted:
                features.second = made[images:].data_ptr()
                sums = torch.zeros(images, 2, dtype=torch.float64)
                features.sums = sums.data_ptr()
                buffers.run("features_compare", features)
                apart, size = (sums.sum(0) / (images * layer.outputs * height * width)).float()
                scale = weights[len(losses)] * (
                    1 / mean_over_processes(size) if feature_scale == "relative" else torch.tensor(feature_scale)
                )
                losses.append(scale * apart)
                self.weights[number] = float(scale) / (images * layer.outputs * height * width)
            self.compared[number] = features
            if layer.pooled:
                maps = buffers.zeros(f"{number} pooled", 2 * images, span(height // 2, width // 2), layer.outputs)
                features.pooled, features.images = maps.data_ptr(), 2 * images
                buffers.run("features_pool", features)
                features.images = images
                height, width = height // 2, width // 2
        return torch.stack(losses).sum()

    def backward(self, factor: float) -> Tensor:
        buffers, layers = self.perceptual.buffers, self.perceptual.layers
        buffers.check(self.number)
        behind: Tensor | None = None
        carry = torch.zeros(self.images, span(self.height, self.width), CHUNK)
        for number in range(len(layers) - 1, -1, -1):
            conv, features = self.convs[number], self.compared.get(number)
            if features:
                gradient = self._gradients(number, conv.height, conv.width, layers[number].outputs)
                features.weight = factor * self.weights.get(number, 0.0)
                features.pooled_gradient = None if behind is None else behind.data_ptr()
                features.gradient = gradient.data_ptr()
                buffers.run("features_back", features)
                behind = gradient
            assert behind is not None
            conv.images = self.images
            conv.gradient = behind.data_ptr()
            if number:
                below = self._gradients(number + 1, conv.height, conv.width, layers[number].inputs)
                conv.in_gradient, behind = below.data_ptr(), below
            else:
                conv.carry = carry.data_ptr()
            buffers.run("conv_backward", conv)
        made = framed(carry, self.height, self.width)[..., :3].permute(0, 3, 1, 2)
        return made / self.perceptual.std

    def _convolve(self, layer: _Layer, maps: Tensor, made: Tensor, height: int, width: int) -> ConvWork:
        before = self.convs[-1] if self.convs else None
        conv = ConvWork(
            images=2 * self.images,
            height=height,
            width=width,
            enlarge=1,
            in_channels=layer.inputs,
            out_channels=layer.outputs,
            slope=1 if layer.wanted else 0,
            in_slope=0 if before is not None and before.height == height else 1,
            in_pixel=layer.inputs,
            made_pixel=layer.outputs,
            weights=None if layer.is_packed else layer.weight.data_ptr(),
            bias=layer.bias.data_ptr(),
            packed=layer.packed[0].data_ptr(),
            mirrored=layer.packed[1].data_ptr(),
            features=maps.data_ptr(),
            made=made.data_ptr(),
        )
        self.perceptual.buffers.run("conv_forward", conv)
        layer.is_packed = True
        return conv

    def _gradients(self, number: int, height: int, width: int, channels: int) -> Tensor:
        return self.perceptual.buffers.zeros(f"gradient {number % 2}", self.images, span(height, width), channels)
