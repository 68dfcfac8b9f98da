"""Networks as others publish them: their own structures, their own names, random weights. Nothing here uses ours."""

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Names = Callable[[str], str]


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class OldDense(nn.Module):
    """A dense block of the old structure: each convolution in a Sequential with its activation."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 5):
            block = nn.Sequential(conv(channels + (number - 1) * growth, growth), nn.LeakyReLU(0.2))
            self.add_module(f"conv{number}", block)
        self.conv5 = nn.Sequential(conv(channels + 4 * growth, channels))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.get_submodule("conv1")(x)
        x2 = self.get_submodule("conv2")(torch.cat((x, x1), 1))
        x3 = self.get_submodule("conv3")(torch.cat((x, x1, x2), 1))
        x4 = self.get_submodule("conv4")(torch.cat((x, x1, x2, x3), 1))
        x5: Tensor = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        return x5.mul(0.2) + x


class OldBlock(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = OldDense(channels, growth)
        self.RDB2 = OldDense(channels, growth)
        self.RDB3 = OldDense(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.RDB3(self.RDB2(self.RDB1(x)))
        return out.mul(0.2) + x


class Shortcut(nn.Module):
    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.sub(x)
        return out


class OldGenerator(nn.Module):
    """The structure of the first ESRGAN repositories: one Sequential, `model`, with numbers for names."""

    def __init__(
        self, *, channels: int, blocks: int, growth: int, scale: int, inputs: int = 3, outputs: int = 3
    ) -> None:
        super().__init__()
        factors = [3] if scale == 3 else [2] * int(math.log2(scale))
        trunk = [OldBlock(channels, growth) for _ in range(blocks)]
        layers: list[nn.Module] = [conv(inputs, channels), Shortcut(nn.Sequential(*trunk, conv(channels, channels)))]
        for factor in factors:
            layers += [nn.Upsample(scale_factor=factor, mode="nearest"), conv(channels, channels), nn.LeakyReLU(0.2)]
        layers += [conv(channels, channels), nn.LeakyReLU(0.2), conv(channels, outputs)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class Dense(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, growth)
        self.conv2 = conv(channels + growth, growth)
        self.conv3 = conv(channels + 2 * growth, growth)
        self.conv4 = conv(channels + 3 * growth, growth)
        self.conv5 = conv(channels + 4 * growth, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for one in (self.conv1, self.conv2, self.conv3, self.conv4):
            parts.append(functional.leaky_relu(one(torch.cat(parts, 1)), 0.2))
        out: Tensor = self.conv5(torch.cat(parts, 1))
        return out * 0.2 + x


class Block(nn.Module):
    """Its dense blocks are `RDB1`, ... in the first release, `rdb1`, ... since."""

    def __init__(self, channels: int, growth: int, dense: str) -> None:
        super().__init__()
        self.names = [f"{dense}{number}" for number in (1, 2, 3)]
        for name in self.names:
            self.add_module(name, Dense(channels, growth))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for name in self.names:
            out = self.get_submodule(name)(out)
        return out * 0.2 + x


FIRST_RELEASE = {
    "body": "RRDB_trunk",
    "conv_body": "trunk_conv",
    "conv_up": "upconv",
    "conv_hr": "HRconv",
    "rdb": "RDB",
}
NEW = {"body": "body", "conv_body": "conv_body", "conv_up": "conv_up", "conv_hr": "conv_hr", "rdb": "rdb"}


class NamedGenerator(nn.Module):
    """The structure of the first release, and of Real-ESRGAN with its pixel-unshuffle in front."""

    def __init__(
        self, spelling: dict[str, str], *, channels: int, blocks: int, growth: int, scale: int, inputs: int = 3,
        outputs: int = 3, unshuffle: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spelling, self.unshuffle, self.scale = spelling, unshuffle, scale
        self.steps = int(math.log2(scale * unshuffle))
        self.conv_first = conv(inputs * unshuffle**2, channels)
        self.add_module(
            spelling["body"], nn.Sequential(*(Block(channels, growth, spelling["rdb"]) for _ in range(blocks)))
        )
        self.add_module(spelling["conv_body"], conv(channels, channels))
        for step in range(1, self.steps + 1):
            self.add_module(f"{spelling['conv_up']}{step}", conv(channels, channels))
        self.add_module(spelling["conv_hr"], conv(channels, channels))
        self.conv_last = conv(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # As the published program does it: mirrored on the right and below, and cut off behind the network.
        x = functional.pad(x, (0, -width % self.unshuffle, 0, -height % self.unshuffle), "reflect")
        features = self.conv_first(functional.pixel_unshuffle(x, self.unshuffle))
        trunk = self.get_submodule(self.spelling["body"])(features)
        features = features + self.get_submodule(self.spelling["conv_body"])(trunk)
        for step in range(1, self.steps + 1):
            features = functional.interpolate(features, scale_factor=2, mode="nearest")
            features = functional.leaky_relu(self.get_submodule(f"{self.spelling['conv_up']}{step}")(features), 0.2)
        out: Tensor = self.conv_last(functional.leaky_relu(self.get_submodule(self.spelling["conv_hr"])(features), 0.2))
        return out[:, :, : height * self.scale, : width * self.scale]


@torch.no_grad()
def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded weights and biases, none of them zero, that keep values in the range of a picture."""
    chance = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=chance)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1, generator=chance)
    return net.eval().requires_grad_(False)


def prefixed(tensors: dict[str, Tensor], prefix: str) -> "OrderedDict[str, Tensor]":
    return OrderedDict((f"{prefix}{name}", one) for name, one in tensors.items())
