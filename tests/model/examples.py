"""Networks and pictures made for tests: small, seeded, and not trivial."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.rrdb import RRDBConfig, RRDBNet

TINY = RRDBConfig(channels=4, blocks=1, growth=2, scale=4)


@torch.no_grad()
def random_net(config: RRDBConfig = TINY, seed: int = 0) -> RRDBNet:
    """A generator with random weights and biases, none of them zero; its outputs spread around 0.5."""
    chance = torch.Generator().manual_seed(seed)
    net = RRDBNet(config)
    for conv in net.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, generator=chance)
            assert conv.bias is not None
            nn.init.normal_(conv.bias, std=0.2, generator=chance)
    upscaled = net(torch.rand(1, 3, 12, 12, generator=chance))
    net.conv_last.weight *= 0.25 / upscaled.std()
    nn.init.constant_(net.conv_last.bias, 0.5)  # type: ignore[arg-type]  # torch's stub allows a convolution without
    return net.eval().requires_grad_(False)


def textured(height: int, width: int, seed: int = 0) -> Tensor:
    """Seeded noise of two grains, smoothed: uint8 RGB (3, H, W) with flat parts and fine detail."""
    chance = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=chance)
    fine = torch.rand(1, 3, height // 2 + 2, width // 2 + 2, generator=chance)
    values = sum(
        share * functional.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
        for share, noise in ((0.7, coarse), (0.3, fine))
    )
    assert isinstance(values, Tensor)
    return values[0].mul(255).round().clamp(0, 255).to(torch.uint8)
