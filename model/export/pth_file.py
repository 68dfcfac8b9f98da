"""A generator as a PyTorch file with the names of Real-ESRGAN's, which other programs know."""

from pathlib import Path

import torch

from model.rrdb import RRDBNet

KNOWN_GROWTH = 32
"""The growth of published networks. spandrel, and so chaiNNer, take it for granted and refuse any other."""


def write_pth(net: RRDBNet, path: Path) -> None:
    """Write the weights under the names that BasicSR gives the moving average of a generator."""
    torch.save({"params_ema": {name: weight.detach().contiguous() for name, weight in net.state_dict().items()}}, path)
