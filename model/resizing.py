"""Generators of other sizes that begin with the weights of one: wider, or with fewer blocks."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from model.rrdb import MAX_SIZE, RRDBConfig, RRDBNet

GAIN = 0.5
"""Default size of the weights of added features, relative to those of the features of the same convolution."""


class ResizingError(ValueError):
    """A generator cannot have these sizes; the text says why."""


@torch.no_grad()
def resized(
    net: RRDBNet,
    *,
    channels: int | None = None,
    growth: int | None = None,
    without: Collection[int] = (),
    gain: float = GAIN,
    seed: int = 0,
) -> RRDBNet:
    """Make a wider generator that upscales pictures as `net` does, or one without some of its blocks.

    Added features are random sums of all others. No old feature reads them, so pictures stay the same until training
    changes that. Without blocks, pictures change, and training has to repair them.

    Args:
        channels, growth: of the new generator; by default those of `net`.
        without: numbers of the blocks to leave out, from 0.
        gain: see `GAIN`. With 0 added features are 0, and no training can change that.
        seed: of the random weights.

    Raises:
        ResizingError: the new generator would be narrower, or wider than files may be; `net` has no block of such a
            number, or none would be left.
    """
    config = net.config
    channels = config.channels if channels is None else channels
    growth = config.growth if growth is None else growth
    if channels < config.channels or growth < config.growth:
        raise ResizingError(
            f"{channels} channels and growth {growth} are less than the network's {config.channels} and "
            f"{config.growth}; it can only become wider"
        )
    if max(channels, growth) > MAX_SIZE:
        raise ResizingError(f"{channels} channels and growth {growth} could not be read again; {MAX_SIZE} is the most")
    if absent := [block for block in without if not 0 <= block < config.blocks]:
        raise ResizingError(f"there is no block {absent[0]}: the network has the blocks 0 to {config.blocks - 1}")
    kept = [block for block in range(config.blocks) if block not in without]
    if not kept:
        raise ResizingError("no block would be left; keep one")
    wide = RRDBNet(replace(config, channels=channels, growth=growth, blocks=len(kept)))
    weights, chance = net.state_dict(), torch.Generator().manual_seed(seed)
    for name, weight in wide.state_dict().items():
        _fill(weight, weights[_name_before(name, kept)], config, wide.config, gain, chance)
    return wide.eval().requires_grad_(False)


def _fill(
    weight: Tensor, old: Tensor, before: RRDBConfig, after: RRDBConfig, gain: float, chance: torch.Generator
) -> None:
    """Fill a weight or a bias: the old outputs read the old inputs, and the others read all of them."""
    weight.zero_()
    if weight.dim() == 1:
        weight[: len(old)] = old
        return
    inputs = old.shape[1]
    added = weight[len(old) :]
    deviation = gain * old.std() * (inputs / weight.shape[1]) ** 0.5
    added.copy_(deviation * torch.randn(added.shape, generator=chance))
    same = inputs == weight.shape[1]
    weight[: len(old), range(inputs) if same else _places(inputs, before, after)] = old


def _name_before(name: str, kept: list[int]) -> str:
    """Return the name that a weight has in the network with all blocks."""
    trunk, *rest = name.split(".", 2)
    return ".".join((trunk, str(kept[int(rest[0])]), rest[1])) if trunk == "body" else name


def _places(inputs: int, before: RRDBConfig, after: RRDBConfig) -> list[int]:
    """List the places in the wider network of the features that a convolution behind the first one reads."""
    groups = range((inputs - before.channels) // before.growth)
    begins = (after.channels + group * after.growth for group in groups)
    return [*range(before.channels), *(place for begin in begins for place in range(begin, begin + before.growth))]
