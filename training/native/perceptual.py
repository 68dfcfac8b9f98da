"""The perceptual loss in C: VGG19 and the comparison of its features, forward and backward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from training.distributed import mean_over_processes
from training.native.conv import Conv
from training.native.library import CHUNK, Buffers, ConvWork, FeaturesWork, Instructions, framed, span
from training.perceptual import VGGFeatures

FeatureScale = float | Literal["relative"]


@dataclass(frozen=True)
class _Layer:
    """A convolution of VGG19."""

    conv: Conv
    wanted: bool
    pooled: bool
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
                conv = Conv(module.weight, module.bias)
                self.layers.append(_Layer(conv, wanted=index in vgg.wanted, pooled=pooled))

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
        self.works: list[ConvWork] = []
        self.compared: dict[int, FeaturesWork] = {}
        self.weights: dict[int, float] = {}
        losses: list[Tensor] = []
        for number, layer in enumerate(perceptual.layers):
            made = buffers.zeros(f"{number}", 2 * images, span(height, width), layer.conv.outputs)
            # Of pooled features, `features_back` propagates through the activation.
            in_slope = 0 if self.works and self.works[-1].height == height else 1
            fields = {"slope": 1 if layer.wanted else 0, "in_slope": in_slope}
            self.works.append(
                layer.conv.forward(buffers, maps, made, images=2 * images, height=height, width=width, **fields)
            )
            maps = made
            if not (layer.wanted or layer.pooled):
                continue
            features = FeaturesWork(images=images, height=height, width=width, channels=layer.conv.outputs)
            features.first = made.data_ptr()
            if layer.wanted:
                features.second = made[images:].data_ptr()
                sums = torch.zeros(images, 2, dtype=torch.float64)
                features.sums = sums.data_ptr()
                buffers.run("features_compare", features)
                apart, size = (sums.sum(0) / (images * layer.conv.outputs * height * width)).float()
                scale = weights[len(losses)] * (
                    1 / mean_over_processes(size) if feature_scale == "relative" else torch.tensor(feature_scale)
                )
                losses.append(scale * apart)
                self.weights[number] = float(scale) / (images * layer.conv.outputs * height * width)
            self.compared[number] = features
            if layer.pooled:
                maps = buffers.zeros(f"{number} pooled", 2 * images, span(height // 2, width // 2), layer.conv.outputs)
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
        for number, (work, layer) in reversed(list(enumerate(zip(self.works, layers, strict=True)))):
            if features := self.compared.get(number):
                gradient = self._gradients(number, work.height, work.width, layer.conv.outputs)
                features.weight = factor * self.weights.get(number, 0.0)
                features.pooled_gradient = None if behind is None else behind.data_ptr()
                features.gradient = gradient.data_ptr()
                buffers.run("features_back", features)
                behind = gradient
            assert behind is not None
            work.images = self.images
            if number:
                below = self._gradients(number + 1, work.height, work.width, layer.conv.inputs)
                layer.conv.back_to_maps(buffers, work, behind, below=below)
                behind = below
            else:
                layer.conv.back_to_maps(buffers, work, behind, carry=carry)
        made = framed(carry, self.height, self.width)[..., :3].permute(0, 3, 1, 2)
        return made / self.perceptual.std

    def _gradients(self, number: int, height: int, width: int, channels: int) -> Tensor:
        return self.perceptual.buffers.zeros(f"gradient {number % 2}", self.images, span(height, width), channels)
