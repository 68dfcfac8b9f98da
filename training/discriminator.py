"""The discriminators: networks that tell photographs from upscaled pictures."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import cached

from training.config import DiscriminatorConfig
from training.distributed import BatchNorm

NEGATIVE_SLOPE = 0.2
VGG_PX = 128
"""Side of the pictures that the VGG-style discriminator sees."""

Verdicts = tuple[Tensor, Tensor]
"""Raw verdicts (logits) on high-res and on upscaled pictures."""

Judge = Callable[[Tensor, Tensor], tuple[Verdicts, Verdicts]]
"""Judges upscaled and high-res pictures, float RGB (N, 3, H, W) in [0, 1], in one forward pass.

Returns the verdicts twice: for the generator, with the gradient of the upscaled pictures, and for the discriminator,
with that of its weights.
"""


def new_discriminator(config: DiscriminatorConfig, seed: int) -> nn.Module:
    """Create a discriminator with torch's default initialisation; equal for equal seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VGGDiscriminator(config.channels) if config.kind == "vgg" else UNetDiscriminator(config.channels)


def verdicts(net: nn.Module, upscaled: Tensor, high_res: Tensor) -> tuple[Verdicts, Verdicts]:
    """Judge pictures by a discriminator, as `Judge` says."""
    with cached():  # spectral norms move once a step
        both = net(high_res), net(upscaled)
    return both, both


class VGGDiscriminator(nn.Module):
    """ESRGAN's: five times two convolutions, the second of each pair halving the picture, then two linear layers.

    Source: arXiv 1809.00219, section 4.1, and the network that its authors published (`Discriminator_VGG_128`).
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        widths = [channels * factor for factor in (1, 2, 4, 8, 8)]
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), _leaky_relu()]
        layers += _normalised(channels, channels, halve=True)
        for before, width in pairwise(widths):
            layers += _normalised(before, width, halve=False)
            layers += _normalised(width, width, halve=True)
        self.features = nn.Sequential(*layers)
        side = VGG_PX >> len(widths)
        self.verdict = nn.Sequential(nn.Linear(widths[-1] * side * side, 100), _leaky_relu(), nn.Linear(100, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return raw verdicts (logits), higher for photographs: float RGB (N, 3, 128, 128) in [0, 1] -> (N, 1)."""
        verdict: Tensor = self.verdict(self.features(pictures).flatten(1))
        return verdict


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


def _normalised(channels: int, width: int, *, halve: bool) -> list[nn.Module]:
    conv = (
        nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)
        if halve
        else nn.Conv2d(channels, width, 3, padding=1, bias=False)  # the normalisation has a bias of its own
    )
    return [conv, BatchNorm(width), _leaky_relu()]


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's: a U-Net with skips and spectral normalisation that judges every pixel.

    Source: arXiv 2107.10833, section 3.4 and figure 6.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        widths = [channels * factor for factor in (1, 2, 4, 8)]
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, width, 4, stride=2, padding=1, bias=False))
            for before, width in pairwise(widths)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, width, 3, padding=1, bias=False))
            for before, width in pairwise(widths[::-1])
        )
        self.judge = nn.ModuleList(spectral_norm(nn.Conv2d(channels, channels, 3, padding=1, bias=False)) for _ in "12")
        self.verdict = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return raw verdicts (logits), higher for photographs: float RGB (N, 3, H, W) in [0, 1] -> (N, 1, H, W).

        H and W are multiples of 8.
        """
        features = _active(self.first(pictures))
        skips = [features]
        for conv in self.down:
            features = _active(conv(features))
            skips.append(features)
        features = skips.pop()
        for conv in self.up:
            larger = functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = _active(conv(larger)) + skips.pop()
        for conv in self.judge:
            features = _active(conv(features))
        verdict: Tensor = self.verdict(features)
        return verdict


def _active(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, NEGATIVE_SLOPE, inplace=True)
