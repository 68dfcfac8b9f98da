"""A trained generator whose output is a second target: distillation."""

import copy
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from model.convolutions.native import amx
from model.convolutions.trial import cpu_dtypes, library_way, our_way
from model.edges import places_with_margin
from model.files.reading import read_any
from model.rrdb import RRDBConfig, RRDBNet
from model.streaming import upscale_batch
from model.workspace import Workspace
from training.config import TrainingConfig
from training.errors import ConfigError
from training.native.generator import takes

TURNS = tuple(product(range(4), (False, True)))
"""The eight orientations of a crop: quarter turns, and then mirrored or not."""


class Teacher:
    """A fixed generator that upscales the crops of a run, as the service would upscale a picture.

    Args:
        net: any network from RGB (N, 3, H, W) to RGB (N, 3, scale * H, scale * W), floats in [0, 1].
        name: its name and hash, for the card of its student.
        ensemble: return the mean of the results for all eight orientations of a crop.
    """

    def __init__(self, net: nn.Module, device: torch.device, name: str = "", *, ensemble: bool = False) -> None:
        self.net = net.to(device).eval().requires_grad_(False)
        self.turns = TURNS if ensemble else TURNS[:1]
        self.name = name
        self._config = net.config if isinstance(net, RRDBNet) else None
        self._served = _served(net) if isinstance(net, RRDBNet) and device.type == "cpu" else None

    @torch.no_grad()
    def __call__(self, low: Tensor) -> Tensor:
        """Upscale a batch: float RGB (N, 3, H, W) -> float32 (N, 3, scale * H, scale * W), both in [0, 1].

        An ensemble needs square crops.
        """
        turned = torch.cat([_turned(low, *turn) for turn in self.turns]).contiguous(memory_format=torch.channels_last)
        made = self._with_margin(turned, self._config) if self._config else self._run(turned)
        answers = made.float().clamp(0, 1).chunk(len(self.turns))
        back = [_turned_back(answer, *turn) for answer, turn in zip(answers, self.turns, strict=True)]
        return torch.stack(back).mean(dim=0)

    def _with_margin(self, low: Tensor, config: RRDBConfig) -> Tensor:
        margin, scale = config.margin_px, config.scale
        rows, columns = (
            torch.tensor(places_with_margin(side, margin, config.unshuffle), device=low.device)
            for side in low.shape[2:]
        )
        first, (height, width) = scale * margin, (scale * side for side in low.shape[2:])
        upscaled = self._run(low[:, :, rows[:, None], columns])
        return upscaled[:, :, first : first + height, first : first + width]

    def _run(self, low: Tensor) -> Tensor:
        made: Tensor
        with torch.autocast("cpu", enabled=False):  # the number formats of the service; on a GPU that of the step
            if self._served:
                made = self._served(low)
                if made.isfinite().all():  # else features beyond the range of float16
                    return made
            made = self.net(low)
            return made


def _served(net: RRDBNet) -> Callable[[Tensor], Tensor]:
    """Copy a generator to run on the CPU as in the service.

    The number format is the one whose convolutions are fast here, without a trial, so that a run that continues on
    another day learns from the same answers.
    """
    cpu, config = torch.device("cpu"), net.config
    halves = torch.float16 in cpu_dtypes(config.channels, config.growth)
    tiles = amx.available() and takes(config)
    dtype = torch.bfloat16 if tiles else torch.float16 if halves else torch.float32
    copied = copy.deepcopy(net).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
    copied.conv_first.float()
    copied.conv_last.float()
    way = our_way(dtype, cpu) or library_way(dtype, cpu)
    return partial(upscale_batch, copied, workspace=Workspace(), convolve=way())


def _turned(pictures: Tensor, quarters: int, mirrored: bool) -> Tensor:
    turned = pictures.rot90(quarters, (2, 3))
    return turned.flip(3) if mirrored else turned


def _turned_back(pictures: Tensor, quarters: int, mirrored: bool) -> Tensor:
    return (pictures.flip(3) if mirrored else pictures).rot90(-quarters, (2, 3))


def load_teacher(path: Path | None, config: TrainingConfig, device: torch.device) -> Teacher | None:
    """Read the weight file of a teacher, of any kind that serves; None if a run has none.

    Raises:
        ConfigError: there is a file and no weight, or a weight and no file, or the scales differ.
        WeightsError: the file cannot serve.
    """
    weight = config.losses.teacher
    if bool(weight) != bool(path):
        raise ConfigError(
            f"--teacher is {path} and losses.teacher, the weight of its loss, is {weight}; a run takes both or neither"
        )
    if path is None:
        return None
    checkpoint = read_any(path, scale=config.generator.scale)
    net = checkpoint.net
    scale = net.config.scale if isinstance(net, RRDBNet) else net.scale
    if scale != config.generator.scale:
        raise ConfigError(
            f"{path} enlarges by {scale}; {config.recipe} trains a generator for {config.generator.scale}"
        )
    name = f"{checkpoint.card.name}@{checkpoint.sha256[:12]}"
    return Teacher(net, device, name, ensemble=config.losses.teacher_ensemble)
