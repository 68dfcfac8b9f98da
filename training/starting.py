"""The start of a run: a generator from any weight file, and the discriminator of a run or a published one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from model.errors import WeightsError
from model.files.checkpoint import Checkpoint
from model.files.pickled import read_pickled
from model.files.reading import read, sha256_of
from model.rrdb import RRDBNet
from training.config import DiscriminatorConfig, TrainingConfig
from training.discriminator import new_discriminator
from training.errors import ConfigError
from training.steps import new_generator

ESTIMATED = ("running_mean", "running_var", "num_batches_tracked")
"""Suffixes of buffers that other discriminators have and ours do not."""

SPECTRAL = ("_u", "_v")
"""Suffixes of the estimates for spectral norms."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A generator to begin with, and where it comes from."""

    net: RRDBNet
    source: str
    """Name, sha256 and, where the file says it, the source of its weights."""
    licence: str


def read_generator(path: Path, scale: int | None) -> Checkpoint:
    """Read the generator of a weight file of any kind.

    Args:
        scale: of the run, where it is known. Weights of x3 look like those of x2, so 3 decides between the two.

    Raises:
        WeightsError: the file holds no generator that can be read.
    """
    if scale == 3:
        try:
            return read(path, scale=3)
        except WeightsError:
            pass  # of another scale, or broken: the next line raises the reason
    return read(path)


def named(path: Path, name: str, sha256: str) -> str:
    """Name a weight file as the config records it."""
    return f"{name or path.name}, sha256 {sha256}"


def start_from(
    checkpoint: Checkpoint, path: Path, config: TrainingConfig, *, rescale: bool, report: Callable[[str], None]
) -> Start:
    """Make the generator that a run begins with.

    Args:
        rescale: the file may enlarge by another factor; then some convolutions behind the trunk are new.

    Raises:
        ConfigError: the file's network has other sizes than the config's.
    """
    theirs, ours = checkpoint.net.config, config.generator
    same = replace(theirs, padding_mode=ours.padding_mode, scale=ours.scale if rescale else theirs.scale)
    if same != ours:
        raise ConfigError(f"{path} is a network of {theirs}; {config.recipe} needs {ours}")
    card = checkpoint.card
    source = named(path, card.name, checkpoint.sha256)
    return Start(
        net=_rescaled(checkpoint.net, config, report),
        source=f"trained from {source}{f' ({card.source})' if card.source else ''}",
        licence=card.licence,
    )


def _rescaled(start: RRDBNet, config: TrainingConfig, report: Callable[[str], None]) -> RRDBNet:
    """Change the scale of the start to the config's: missing convolutions are copies of its `conv_up1`, or new."""
    if start.config.scale == config.generator.scale:
        return start
    net = new_generator(config)
    known = start.state_dict()
    wanted = net.state_dict()
    begun = {name: known.get(name, known.get(_first_of_its_kind(name), weight)) for name, weight in wanted.items()}
    net.load_state_dict(begun)
    changed = sorted({name.partition(".")[0] for name in wanted.keys() ^ known.keys()})
    report(
        f"the start enlarges by {start.config.scale} and this run by {config.generator.scale}: "
        f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} added or left out"
    )
    return net


def _first_of_its_kind(name: str) -> str:
    return f"conv_up1.{name.partition('.')[2]}" if name.startswith("conv_up") else name


def read_discriminator(path: Path, config: DiscriminatorConfig) -> nn.Module:
    """Read the weights of a discriminator: of a run's `state.pt`, or a published `.pth`.

    Names differ, but all files list the layers in the order in which pictures pass them, so shapes decide.

    Raises:
        WeightsError: the file holds no discriminator of the config's kind and width.
    """
    net = new_discriminator(config, seed=0)
    tensors = _of_discriminator(read_pickled(path).tensors)
    weights = [one for name, one in tensors.items() if not name.endswith(ESTIMATED + SPECTRAL)]
    spectral = [one for name, one in tensors.items() if name.endswith(SPECTRAL)]
    _fill(path, config, list(net.named_parameters()), weights)
    buffers = list(net.named_buffers())
    if spectral or buffers:
        _fill(path, config, buffers, spectral)
    return net


def _of_discriminator(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {name: one for name, one in tensors.items() if ".discriminator.net." in f".{name}"}
    return ours or tensors


def _fill(path: Path, config: DiscriminatorConfig, ours: list[tuple[str, Tensor]], theirs: list[Tensor]) -> None:
    shapes = [tuple(one.shape) for _, one in ours]
    if shapes != (found := [tuple(one.shape) for one in theirs]):
        at = next((n for n, pair in enumerate(zip(shapes, found, strict=False)) if pair[0] != pair[1]), None)
        reason = (
            f"it has {len(found)} tensors and not {len(shapes)}"
            if at is None
            else f"{ours[at][0]} would be {found[at]} and not {shapes[at]}"
        )
        raise WeightsError(f"{path} holds no {config.kind} discriminator of {config.channels} channels: {reason}")
    for (_, one), other in zip(ours, theirs, strict=True):
        one.data.copy_(other)


def discriminator_named(path: Path) -> str:
    """Name the file of a discriminator as the config records it."""
    return named(path, "", sha256_of(path))
