"""`python -m training RECIPE`: train a generator, or continue a run that was killed."""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from model.checkpoint import Checkpoint
from model.reading import read
from training.config import ConfigError, TrainingConfig
from training.damage import DAMAGES, Damage, damaged_pair
from training.data import Pair, originals, read_pairs
from training.distributed import joined, this_process
from training.evaluate import LEAST_PX
from training.perceptual import load_vgg
from training.recipes import RECIPES
from training.sources import hold_out, open_photographs
from training.steps import Steps
from training.teacher import Teacher, load_teacher
from training.train import Run, refuse_finished, train


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that every recipe has to its parser."""
    add = command.add_argument
    add("--data", type=Path, required=True, help="folder with photographs, searched in depth")
    add("--out", type=Path, required=True, help="folder of the run; the same one continues it")
    add("--validation", type=Path, help="pictures to measure PSNR-Y on; without it a few of --data are kept aside")
    add("--start", type=Path, metavar="FILE", help="weight file of any kind to begin with; a GAN recipe needs one")
    add("--trained-on", default="", help="the photographs and their licence, for the weight file")
    add("--vgg-weights", type=Path, metavar="FILE", help="VGG19 of the perceptual loss; without it torchvision's")
    add(
        "--teacher", type=Path, metavar="FILE", help="weight file of any kind to learn from, with weight losses.teacher"
    )
    add("--memory-gb", type=float, help="memory for decoded photographs; without it half of what the device has free")
    add("--workers", type=int, default=4, help="processes that decode where the photographs do not fit (default 4)")
    add("--steps", type=int, help="instead of the recipe's; more of them continue a run that was killed")
    add("--batch", type=int, help="instead of the recipe's")
    add("--seed", type=int, help="instead of the recipe's")
    add("--method", choices=("adam", "muon"), help="the generator's optimiser, instead of the recipe's")
    add("--no-compile", dest="compiled", action="store_false", help="do not let torch compile the generator on a GPU")


def run(options: argparse.Namespace) -> int:
    """Run the recipe that the command names."""
    config, data = _chosen(options), originals(options.data)
    with joined() as device:
        report = tqdm.write if this_process() == 0 else _silent
        start = _start(options.start, config) if options.start else None
        losses = config.losses
        vgg = load_vgg(options.vgg_weights, device, losses.perceptual_layers.names) if losses.perceptual else None
        teacher = load_teacher(options.teacher, config, device)
        refuse_finished(options.out, config)
        held_out = None if options.validation else hold_out(data)
        photographs = open_photographs(
            data,
            config,
            device,
            leave_out=held_out or frozenset(),
            most_bytes=None if options.memory_gb is None else int(options.memory_gb * 1e9),
            workers=options.workers,
            report=report,
        )
        training = Run(
            steps=Steps(
                config,
                device,
                start=start.net if start else None,
                vgg=vgg,
                teacher=teacher,
                compiled=options.compiled and device.type == "cuda",
            ),
            photographs=photographs,
            validation=_validation(options.validation or data, held_out, config, report),
            out=options.out,
            trained_on=_trained_on(options, photographs.number, teacher),
            report=report,
        )
        path = train(training)
        report(f"wrote {path}")
    return 0


def _chosen(options: argparse.Namespace) -> TrainingConfig:
    """Replace fields of the recipe by what the command line gives."""
    config = RECIPES[options.command]()
    if config.starts_from and not options.start:
        raise ConfigError(f"{config.recipe} begins with a generator of {config.starts_from}; name its file by --start")
    given = {name: getattr(options, name) for name in ("steps", "batch", "seed")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.method:
        changes["optimiser"] = replace(config.optimiser, method=options.method)
    return replace(config, **changes)


def _start(path: Path, config: TrainingConfig) -> Checkpoint:
    """Read the weights to begin with; their network may have padded its convolutions by other pixels."""
    scale = config.generator.scale if config.generator.scale == 3 else None  # the weights themselves do not say it
    start = read(path, scale=scale)
    if replace(start.net.config, padding_mode=config.generator.padding_mode) != config.generator:
        raise ConfigError(f"{path} is a network of {start.net.config}; {config.recipe} needs {config.generator}")
    return start


def _trained_on(options: argparse.Namespace, number: int, teacher: Teacher | None) -> str:
    """Name the pictures, and the teacher, on which the licence of its student may depend."""
    pictures: str = options.trained_on or f"{number} pictures of {options.data.name}"
    return f"{pictures}; taught by {teacher.name}" if teacher else pictures


def _validation(
    folder: Path, only: frozenset[Path] | None, config: TrainingConfig, report: Callable[[str], None]
) -> dict[Damage, list[Pair]]:
    """Read the pictures to measure on: all of a folder or some; of every kind of upload if the run learns from them."""
    pairs, scale = [], config.generator.scale
    for pair in read_pairs(originals(folder), scale, least_px=math.ceil(LEAST_PX / scale), only=only):
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            report(f"left out: {pair}")
    kinds = DAMAGES if config.learns_damage else DAMAGES[:1]
    return {damage: [damaged_pair(pair, damage) for pair in pairs] for damage in kinds if pairs}


def _silent(line: str) -> None:
    """Drop the line: only process 0 reports."""
