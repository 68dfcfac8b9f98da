"""The discriminators: networks that tell photographs from upscaled pictures."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import cached

from training.config import DiscriminatorConfig
from training.distributed import BatchNorm
from training.perceptual import Maps, one_over_size

NEGATIVE_SLOPE = 0.2
VGG_PX = 128
"""Side of the pictures that the VGG-style discriminator sees."""

VGG_CHANNELS = (64, 128, 256, 512, 512)
"""Channels of the layers of VGG19 in `LayerWeights`."""

Verdicts = tuple[Tensor, Tensor]
"""Raw verdicts (logits) on high-res and on upscaled pictures."""

Judge = Callable[[Maps], tuple[list[Verdicts], list[Verdicts]]]
"""Judges maps in one forward pass.

Returns the verdicts twice, a pair for each map: for the generator, with the gradient of the upscaled pictures' maps,
and for the discriminator, with that of its weights.
"""


def new_discriminator(config: DiscriminatorConfig, seed: int) -> nn.Module:
    """Create a discriminator with torch's default initialisation; equal for equal seeds."""
    kinds = {"vgg": VGGDiscriminator, "unet": UNetDiscriminator, "features": FeatureDiscriminator}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kinds[config.kind](config.channels)


def verdicts(net: nn.Module, maps: Maps) -> tuple[list[Verdicts], list[Verdicts]]:
    """Judge maps by a discriminator, as `Judge` says."""
    with cached():  # spectral norms move once a step
        if isinstance(net, FeatureDiscriminator):
            scales = [one_over_size(features) for features in maps.high_res]
            high_res, upscaled = ([*map(torch.mul, one, scales)] for one in (maps.high_res, maps.upscaled))
            both = list(zip(net(high_res), net(upscaled), strict=True))
        else:
            both = [(net(real), net(fake)) for real, fake in zip(maps.high_res, maps.upscaled, strict=True)]
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


class FeatureDiscriminator(nn.Module):
    """A head on each of five layers of VGG19, which judges every position of its features.

    VGG19 is fixed and not part of it, so it has little to learn, and tells photographs from upscaled pictures within
    some hundred steps. Source: Sauer et al., "Projected GANs Converge Faster", arXiv 2111.01007, but without mixing
    the layers by random convolutions.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(inputs, width, 1)),
                _leaky_relu(),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                _leaky_relu(),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                _leaky_relu(),
                nn.Conv2d(width, 1, 1),
            )
            for inputs, width in zip(VGG_CHANNELS, (channels, *[2 * channels] * 4), strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return raw verdicts (logits) for each layer, higher for photographs: (N, C, H, W) -> (N, 1, H, W)."""
        return [head(one) for head, one in zip(self.heads, features, strict=True)]


def _active(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, NEGATIVE_SLOPE, inplace=True)
