"""SRVGG networks as ncnn pairs: they match spandrel's network and the graph."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from model.errors import WeightsError
from model.files.foreign import ForeignNet
from model.files.reading import read, read_any
from tests.model.files.test_foreign import Compact
from tests.model.published import randomised

CHANNELS, SCALE = 4, 2


@pytest.fixture
def net() -> Compact:
    made = Compact(CHANNELS, 1, SCALE)
    randomised(made, 3)
    return made


@pytest.fixture
def pair(net: Compact, tmp_path: Path) -> Path:
    """The pair of a network, as realesrgan-ncnn-vulkan has them."""
    layers, data, seen = ["Input in 0 1 data", "Split split 1 2 data whole low"], b"", "low"
    for number, layer in enumerate(net.body):
        if isinstance(layer, nn.Conv2d):
            sizes = f"0={layer.out_channels} 1=3 4=1 5=1 6={layer.weight.numel()}"
            layers.append(f"Convolution conv{number} 1 1 {seen} made{number} {sizes}")
            data += bytes(4) + layer.weight.detach().numpy().tobytes()
            assert layer.bias is not None
            data += layer.bias.detach().numpy().tobytes()
        elif isinstance(layer, nn.PReLU):
            layers.append(f"PReLU prelu{number} 1 1 {seen} made{number} 0={CHANNELS}")
            data += layer.weight.detach().numpy().astype(numpy.float32).tobytes()
        seen = f"made{number}"
    layers += [
        f"PixelShuffle shuffle 1 1 {seen} large 0={SCALE}",
        f"Interp enlarge 1 1 whole base 0=1 1={SCALE}.0 2={SCALE}.0",
        "BinaryOp add 2 1 large base output",
    ]
    path = tmp_path / "small.param"
    path.write_text("\n".join(["7767517", f"{len(layers)} {len(layers) + 1}", *layers]))
    path.with_suffix(".bin").write_bytes(data)
    return path


def test_a_pair_of_an_srvgg_network_serves(pair: Path, net: Compact) -> None:
    checkpoint = read_any(pair)
    assert isinstance(checkpoint.net, ForeignNet)
    assert (checkpoint.format, checkpoint.card.name) == ("RealESRGAN Compact (spandrel), .param", "small")
    picture = torch.rand(1, 3, 7, 5)
    with torch.inference_mode():
        assert (checkpoint.net(picture) - net(picture).clamp(0, 1)).abs().max() < 1e-5
    with pytest.raises(WeightsError, match=r"small\.param is an SRVGG network, not ESRGAN's"):
        read(pair)


def replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def shrunk(text: str) -> str:
    more = text.replace("large base output", "large base again") + "\nInterp shrink 1 1 again output 0=3 1=0.5 2=0.5"
    first, sizes, *rest = more.splitlines()
    return "\n".join([first, f"{int(sizes.split()[0]) + 1} 99", *rest])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (shrunk, "shrinks it again; take the pair without that"),
        (replacing("large base output", "large base output 0=2"), "does something else with them"),
        (replacing("PixelShuffle shuffle", "Split shuffle"), "not the two enlargements"),
        (replacing(" 0=2\nInterp", " 0=2 1=1\nInterp"), "another order than PyTorch's"),
        (replacing(f"0={CHANNELS}\nConv", "0=-1\nConv"), "the PReLU made1 has -1 slopes"),
        (replacing("PixelShuffle", "Deconvolution"), "'Deconvolution', which no network has that is read"),
    ],
)
def test_a_graph_that_does_something_else_is_refused(edit: Callable[[str], str], reason: str, pair: Path) -> None:
    pair.write_text(edit(pair.read_text()))
    with pytest.raises(WeightsError, match=rf"small\.param .*{reason}"):
        read_any(pair)
