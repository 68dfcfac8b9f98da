"""A generator as a PyTorch file with the names of Real-ESRGAN's, which other programs know."""

from dataclasses import replace
from pathlib import Path

import torch

from model.rrdb import RRDBConfig, RRDBNet

KNOWN_GROWTH = 32
"""The growth of published networks. spandrel, and so chaiNNer, take it for granted and refuse any other."""


def write_pth(net: RRDBNet, path: Path) -> None:
    """Write the weights under the names that BasicSR gives the moving average of a generator."""
    torch.save({"params_ema": {name: weight.detach().contiguous() for name, weight in net.state_dict().items()}}, path)


@torch.no_grad()
def widened(net: RRDBNet, growth: int = KNOWN_GROWTH) -> RRDBNet:
    """Make an equal network of a larger growth: the additional features are 0, and nothing reads them."""
    wide = RRDBNet(replace(net.config, growth=growth))
    weights = wide.state_dict()
    for name, weight in net.state_dict().items():
        weights[name].zero_()
        if weight.shape == weights[name].shape:
            weights[name].copy_(weight)
        elif weight.dim() == 1:
            weights[name][: len(weight)] = weight
        else:
            weights[name][: len(weight), _places(weight.shape[1], net.config, growth)] = weight
    return wide.eval().requires_grad_(False)


def _places(inputs: int, config: RRDBConfig, growth: int) -> list[int]:
    """List the places in the wider network of the features that a convolution reads."""
    channels, narrow = config.channels, config.growth
    groups = ((place - channels) // narrow for place in range(inputs))
    return [place + max(group, 0) * (growth - narrow) for place, group in enumerate(groups)]
