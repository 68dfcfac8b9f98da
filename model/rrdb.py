"""The generator of ESRGAN: RRDBNet, a residual-in-residual dense network without batch normalisation.

Source: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", arXiv 1809.00219,
section 3.1 and figure 4. The key names are those of the published weights, so these load without a mapping.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.edges import mirrored
from model.padding import pad_by_repeating

NEGATIVE_SLOPE = 0.2
"""Slope of every LeakyReLU."""

RESIDUAL_SCALING = 0.2
"""Factor on each residual before it is added (the paper's beta)."""

SCALES = (1, 2, 3, 4, 8)

INPUTS = (1, 3, 4)
"""Possible numbers of input values of a pixel."""

UNSHUFFLES = (1, 2, 4)

MAX_SIZE = 1024
"""Maximum channels, blocks and growth."""

MARGIN_PX = 8
"""Mirrored pixels around a picture for networks that pad with zeros; further in, the zeros have no visible effect."""

PaddingMode = Literal["zeros", "replicate"]
PADDING_MODES: tuple[PaddingMode, ...] = get_args(PaddingMode)


@dataclass(frozen=True, kw_only=True)
class RRDBConfig:
    """Sizes of a generator; the paper's are 64 channels, 23 blocks, growth 32, scale 4.

    Raises:
        ValueError: a size is not from 1 to `MAX_SIZE`, or not one of `SCALES`, `INPUTS`, `UNSHUFFLES`, `PADDING_MODES`.
    """

    channels: int = 64
    blocks: int = 23
    growth: int = 32
    scale: int = 4
    inputs: int = 3
    """Input values of a pixel: 3 for RGB; 1 for grey, where each colour goes through as a grey picture of its own; 4
    for RGB and an opaque alpha."""
    unshuffle: int = 1
    """Side of the squares of pixels that become the channels of one pixel before the first convolution (2 and 4 for
    Real-ESRGAN's x2 and x1); the network then enlarges by unshuffle * scale."""
    padding_mode: PaddingMode = "zeros"
    """Pixels that every convolution sees beyond the border: zeros, as in published networks, or repeated border pixels,
    with which a flat picture keeps its colour at the border."""

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "growth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
            if getattr(self, name) > MAX_SIZE:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at most {MAX_SIZE}")
        choices = {"scale": SCALES, "inputs": INPUTS, "unshuffle": UNSHUFFLES, "padding_mode": PADDING_MODES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {allowed}")
        if self.scale == 3 and self.unshuffle > 1:
            raise ValueError(f"scale is 3 with unshuffle {self.unshuffle}; such networks enlarge by powers of two")

    @property
    def margin_px(self) -> int:
        """Mirrored pixels that the network needs around a picture; scale times as many are cut off its output."""
        return MARGIN_PX if self.padding_mode == "zeros" else 0

    @property
    def enlargements(self) -> tuple[int, ...]:
        """Factors of the enlargements after the trunk, in order: 2, 2 for scale 4."""
        return (3,) if self.scale == 3 else (2,) * ((self.scale * self.unshuffle).bit_length() - 1)

    @property
    def passes(self) -> int:
        """Number of pictures that the network processes for an RGB one."""
        return 3 if self.inputs == 1 else 1

    @property
    def colours(self) -> int:
        """Output values of a pixel."""
        return min(self.inputs, 3)

    @property
    def macs_per_low_res_px(self) -> int:
        """Multiply-accumulate operations of the convolutions for one RGB pixel of the input."""
        dense = sum((self.channels + j * self.growth) * self.growth for j in range(4))
        dense += (self.channels + 4 * self.growth) * self.channels
        square = self.channels * self.channels
        sides: list[int] = list(accumulate(self.enlargements, operator.mul))
        upsampling = sum(square * side**2 for side in sides)
        last = (square + self.colours * self.channels) * (self.scale * self.unshuffle) ** 2
        first = self.inputs * self.unshuffle**2 * self.channels
        macs: int = 9 * (first + 3 * self.blocks * dense + square + upsampling + last)
        return self.passes * macs // self.unshuffle**2


class Conv3x3(nn.Conv2d):
    """The only kind of convolution in the network: 3x3, stride 1, with bias; the output is as large as the input."""

    def __init__(self, in_channels: int, out_channels: int, padding_mode: PaddingMode) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, padding_mode=padding_mode)

    def forward(self, *features: Tensor) -> Tensor:
        """Convolve maps (N, C1, H, W), (N, C2, H, W), ... as if they were one of C1 + C2 + ... channels."""
        if self.padding_mode == "replicate":
            return functional.conv2d(pad_by_repeating(*features), self.weight, self.bias)
        joined = features[0] if len(features) == 1 else torch.cat(features, dim=1)
        return functional.conv2d(joined, self.weight, self.bias, padding=1)


def leaky_relu(features: Tensor) -> Tensor:
    """Apply the only non-linearity of the network; overwrites `features`."""
    return functional.leaky_relu(features, NEGATIVE_SLOPE, inplace=True)


def enlarge(features: Tensor, factor: int) -> Tensor:
    """(N, C, H, W) -> (N, C, factor * H, factor * W), nearest neighbour."""
    return functional.interpolate(features, scale_factor=factor, mode="nearest")


def entering(rgb: Tensor, config: RRDBConfig) -> Tensor:
    """Convert RGB (N, 3, H, W) to the input of the first convolution.

    That is (passes * N, inputs * unshuffle², H / unshuffle, W / unshuffle). Sides that `unshuffle` does not divide get
    mirrored pixels at the right and at the bottom, as in Real-ESRGAN.
    """
    for axis in (2, 3):
        if rgb.shape[axis] % config.unshuffle:
            sources = torch.tensor(mirrored(rgb.shape[axis], config.unshuffle), device=rgb.device)
            rgb = rgb.index_select(axis, sources)
    if config.inputs == 1:
        rgb = rgb.flatten(0, 1)[:, None]
    elif config.inputs == 4:
        rgb = torch.cat((rgb, torch.ones_like(rgb[:, :1])), dim=1)
    return functional.pixel_unshuffle(rgb, config.unshuffle) if config.unshuffle > 1 else rgb


def leaving(made: Tensor, config: RRDBConfig) -> Tensor:
    """Convert the output of the last convolution to RGB: (passes * N, colours, H, W) -> (N, 3, H, W)."""
    return made.unflatten(0, (-1, 3)).flatten(1, 2) if config.inputs == 1 else made


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convolutions, each of the input and all outputs before it: the paper's dense block."""

    def __init__(self, channels: int, growth: int, padding_mode: PaddingMode = "zeros") -> None:
        super().__init__()
        self.conv1 = Conv3x3(channels, growth, padding_mode)
        self.conv2 = Conv3x3(channels + growth, growth, padding_mode)
        self.conv3 = Conv3x3(channels + 2 * growth, growth, padding_mode)
        self.conv4 = Conv3x3(channels + 3 * growth, growth, padding_mode)
        self.conv5 = Conv3x3(channels + 4 * growth, channels, padding_mode)

    @property
    def growing(self) -> tuple[nn.Conv2d, ...]:
        """The four convolutions whose outputs are added to the features."""
        return (self.conv1, self.conv2, self.conv3, self.conv4)

    @property
    def convolutions(self) -> tuple[nn.Conv2d, ...]:
        """All five convolutions, in order."""
        return (*self.growing, self.conv5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        features = [x]
        for conv in self.growing:
            features.append(leaky_relu(conv(*features)))
        return x + RESIDUAL_SCALING * cast(Tensor, self.conv5(*features))


class RRDB(nn.Module):
    """Residual in residual: three dense blocks inside one more scaled residual (figure 4 of the paper)."""

    def __init__(self, channels: int, growth: int, padding_mode: PaddingMode = "zeros") -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(channels, growth, padding_mode)
        self.rdb2 = ResidualDenseBlock(channels, growth, padding_mode)
        self.rdb3 = ResidualDenseBlock(channels, growth, padding_mode)

    @property
    def dense_blocks(self) -> tuple[ResidualDenseBlock, ...]:
        """The three dense blocks, in order."""
        return (self.rdb1, self.rdb2, self.rdb3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return x + RESIDUAL_SCALING * cast(Tensor, self.rdb3(self.rdb2(self.rdb1(x))))


class RRDBNet(nn.Module):
    """RGB in, RGB `scale` times larger out.

    One convolution, a trunk of RRDBs with a skip connection around it, nearest-neighbour enlargement and a convolution
    for each factor, and two convolutions to RGB.
    """

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        channels, mode = config.channels, config.padding_mode
        self.conv_first = Conv3x3(config.inputs * config.unshuffle**2, channels, mode)
        self.body = nn.Sequential(*(RRDB(channels, config.growth, mode) for _ in range(config.blocks)))
        self.conv_body = Conv3x3(channels, channels, mode)
        for step in range(1, len(config.enlargements) + 1):
            self.add_module(f"conv_up{step}", Conv3x3(channels, channels, mode))
        self.conv_hr = Conv3x3(channels, channels, mode)
        self.conv_last = Conv3x3(channels, config.colours, mode)

    @classmethod
    def of(cls, config: RRDBConfig, weights: Mapping[str, Tensor]) -> Self:
        """Create a network of these weights, shared and not copied, that runs without gradients."""
        with torch.device("meta"):  # without random weights first
            net = cls(config)
        net.load_state_dict(weights, assign=True)
        return net.eval().requires_grad_(False)

    @property
    def upsampling(self) -> tuple[nn.Conv2d, ...]:
        """The convolution after each enlargement, in order: `conv_up1`, `conv_up2`, ..."""
        steps = range(1, len(self.config.enlargements) + 1)
        return tuple(cast(nn.Conv2d, self.get_submodule(f"conv_up{step}")) for step in steps)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: float RGB (N, 3, H, W), values in [0, 1], any H and W from 1.

        Returns:
            Float RGB (N, 3, scale * H, scale * W), not clamped.
        """
        height, width = (self.config.scale * side for side in x.shape[2:])
        features = self.conv_first(entering(x, self.config))
        features = features + self.conv_body(self.body(features))
        for conv, factor in zip(self.upsampling, self.config.enlargements, strict=True):
            features = leaky_relu(conv(enlarge(features, factor)))
        made = leaving(self.conv_last(leaky_relu(self.conv_hr(features))), self.config)
        return made[:, :, :height, :width]
