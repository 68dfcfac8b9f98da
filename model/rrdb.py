"""The generator of ESRGAN: RRDBNet, a residual-in-residual dense network without batch normalisation.

Source: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", arXiv 1809.00219,
section 3.1 and figure 4. The key names are those of the published weights, so these load without a mapping.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

NEGATIVE_SLOPE = 0.2
"""Slope of every LeakyReLU."""

RESIDUAL_SCALING = 0.2
"""Factor on each residual before it is added (the paper's beta)."""

SCALES = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class RRDBConfig:
    """Sizes of a generator; the paper's are 64 channels, 23 blocks, growth 32, scale 4.

    Raises:
        ValueError: a size is not positive, or the scale is not one of `SCALES`.
    """

    channels: int = 64
    blocks: int = 23
    growth: int = 32
    scale: int = 4

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "growth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.scale not in SCALES:
            raise ValueError(f"scale is {self.scale}; it must be one of {SCALES}")

    @property
    def upsamplings(self) -> int:
        """How many times the picture is doubled: 2 for scale 4."""
        return self.scale.bit_length() - 1

    @property
    def macs_per_low_res_px(self) -> int:
        """Multiply-accumulate operations of the convolutions for one pixel of the input."""
        dense = sum((self.channels + j * self.growth) * self.growth for j in range(4))
        dense += (self.channels + 4 * self.growth) * self.channels
        square = self.channels * self.channels
        upsampling = sum(square * (1 << 2 * step) for step in range(1, self.upsamplings + 1))
        last = (square + 3 * self.channels) * self.scale**2
        return 9 * (3 * self.channels + 3 * self.blocks * dense + square + upsampling + last)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """The only convolution of the network: 3x3, stride 1, zero padding 1, with bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def leaky_relu(features: Tensor) -> Tensor:
    """The network's only non-linearity; overwrites `features`, which no caller needs again."""
    return functional.leaky_relu(features, NEGATIVE_SLOPE, inplace=True)


def double(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), nearest neighbour."""
    return functional.interpolate(features, scale_factor=2, mode="nearest")


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convolutions, each fed with everything before it; the paper's dense block."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, growth)
        self.conv2 = conv3x3(channels + growth, growth)
        self.conv3 = conv3x3(channels + 2 * growth, growth)
        self.conv4 = conv3x3(channels + 3 * growth, growth)
        self.conv5 = conv3x3(channels + 4 * growth, channels)

    @property
    def growing(self) -> tuple[nn.Conv2d, ...]:
        """The four convolutions whose outputs join the features."""
        return (self.conv1, self.conv2, self.conv3, self.conv4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        features = x
        for conv in self.growing:
            features = torch.cat((features, leaky_relu(conv(features))), dim=1)
        return x + RESIDUAL_SCALING * cast(Tensor, self.conv5(features))


class RRDB(nn.Module):
    """Residual in residual: three dense blocks inside one more scaled residual (figure 4 of the paper)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(channels, growth)
        self.rdb2 = ResidualDenseBlock(channels, growth)
        self.rdb3 = ResidualDenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return x + RESIDUAL_SCALING * cast(Tensor, self.rdb3(self.rdb2(self.rdb1(x))))


class RRDBNet(nn.Module):
    """RGB in, RGB `scale` times larger out.

    The first convolution feeds a trunk of RRDBs closed by a long skip; then nearest-neighbour doubling and a
    convolution for each factor of two, and two convolutions to RGB.
    """

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.conv_first = conv3x3(3, channels)
        self.body = nn.Sequential(*(RRDB(channels, config.growth) for _ in range(config.blocks)))
        self.conv_body = conv3x3(channels, channels)
        for step in range(1, config.upsamplings + 1):
            self.add_module(f"conv_up{step}", conv3x3(channels, channels))
        self.conv_hr = conv3x3(channels, channels)
        self.conv_last = conv3x3(channels, 3)

    @property
    def upsampling(self) -> tuple[nn.Conv2d, ...]:
        """The convolution after each doubling, in order: `conv_up1`, `conv_up2`, ..."""
        steps = range(1, self.config.upsamplings + 1)
        return tuple(cast(nn.Conv2d, self.get_submodule(f"conv_up{step}")) for step in steps)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: float RGB (N, 3, H, W), values in [0, 1], any H and W from 1.

        Returns:
            Float RGB (N, 3, scale * H, scale * W), not clamped.
        """
        features = self.conv_first(x)
        features = features + self.conv_body(self.body(features))
        for conv in self.upsampling:
            features = leaky_relu(conv(double(features)))
        return cast(Tensor, self.conv_last(leaky_relu(self.conv_hr(features))))
