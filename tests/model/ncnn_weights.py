"""Reads a generator out of ncnn's weight layout: published weights that nobody here made.

Each convolution, in forward order: the flag 0x01306B47, float16 weights padded to 4 bytes, float32 biases.
"""

from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

from model.rrdb import RRDBConfig, RRDBNet

FLOAT16 = 0x01306B47


def read_generator(path: Path, config: RRDBConfig) -> RRDBNet:
    """A generator filled from an ncnn `.bin`; RRDBNet makes its convolutions in the order of its forward pass.

    Raises:
        ValueError: the file does not hold exactly the convolutions of such a network.
    """
    data = path.read_bytes()
    net = RRDBNet(config).requires_grad_(False)
    offset = 0
    for conv in net.modules():
        if isinstance(conv, nn.Conv2d):
            offset = _fill(conv, data, offset)
    if offset != len(data):
        raise ValueError(f"{path} holds {len(data)} bytes, a network of {config} takes {offset}")
    return net.eval()


def _fill(conv: nn.Conv2d, data: bytes, offset: int) -> int:
    assert conv.bias is not None
    if (flag := int.from_bytes(data[offset : offset + 4], "little")) != FLOAT16:
        raise ValueError(f"at byte {offset} lies {flag:#x}, not the flag of float16 weights")
    count = conv.weight.numel()
    conv.weight.copy_(_numbers(data, "<f2", count, offset + 4).view_as(conv.weight))
    behind_weights = offset + 4 + (2 * count + 3) // 4 * 4
    conv.bias.copy_(_numbers(data, "<f4", len(conv.bias), behind_weights))
    return behind_weights + 4 * len(conv.bias)


def _numbers(data: bytes, dtype: str, count: int, offset: int) -> Tensor:
    return torch.from_numpy(numpy.frombuffer(data, dtype, count, offset).astype(numpy.float32))
