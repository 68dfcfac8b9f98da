"""`python -m training RECIPE`: train a generator, or continue a run that was killed."""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from model.files.checkpoint import Checkpoint
from model.rrdb import SCALES
from training.commands import pictures
from training.config import ANY, TrainingConfig
from training.crops import refuse_unequal_shares
from training.damage import Damage
from training.data import Pairs, folder_name
from training.distributed import from_process_0, joined, processes, this_process
from training.errors import ConfigError
from training.fields import read_config, shorter_warm_ups, with_settings
from training.heap import keep_freed_memory
from training.lpips import load_lpips
from training.perceptual import VGGFeatures, load_vgg
from training.recipes import RECIPES
from training.snapshots import Origin
from training.sources import Photographs
from training.starting import Start, discriminator_named, named, read_discriminator, read_generator, start_from
from training.state import state_to_continue
from training.steps import Steps
from training.teacher import Teacher, load_teacher
from training.terminal import say
from training.train import Run, train
from training.validation import Validation

Report = Callable[[str], None]


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that every recipe has to its parser."""
    add = command.add_argument
    pictures.add_options(command)
    add("--out", type=Path, required=True, help="folder of the run; the same one continues it")
    add("--start", type=Path, metavar="FILE", help="weight file of any kind to begin with; some recipes need one")
    add("--start-discriminator", type=Path, metavar="FILE", help="state.pt or .pth with a discriminator to begin with")
    add("--scale", type=int, choices=SCALES, help="scale, instead of the recipe's or the start's")
    add("--steps", type=int, help="instead of the recipe's; more of them continue a run that was killed")
    add("--batch", type=int, help="instead of the recipe's")
    add("--seed", type=int, help="instead of the recipe's")
    add("--config", type=Path, metavar="FILE", help="config.json of another run of the recipe, to take its settings")
    add(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="any field of the config, e.g. optimiser.learning_rate=1e-4 crop_px=48 degradation=default",
    )
    add("--trained-on", default="", help="the photographs and their licence, for the weight file")
    add("--vgg-weights", type=Path, metavar="FILE", help="VGG19 of the perceptual loss; without it torchvision's")
    add(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="weight file of any kind to learn from, with --set losses.teacher=1",
    )
    add("--alexnet-weights", type=Path, metavar="FILE", help="AlexNet, to measure LPIPS too")
    add("--no-compile", dest="compiled", action="store_false", help="do not let torch compile the generator on a GPU")


def run(options: argparse.Namespace) -> int:
    """Run the recipe that the command names."""
    with joined() as device:
        if device.type == "cpu":
            keep_freed_memory()
        report = say if this_process() == 0 else _silent
        config, start = _begun(options, report)
        _check(options, config)
        losses = config.losses
        vgg = load_vgg(options.vgg_weights, device, losses.perceptual_layers.names) if losses.perceptual else None
        teacher = load_teacher(options.teacher, config, device)
        config = replace(config, teacher=teacher.name if teacher else None)
        state = from_process_0(lambda: state_to_continue(options.out, config))
        before = state.get("held_out") if state else None
        photographs, measured, held_out = pictures.open_pictures(options, config, device, report, before)
        train(
            Run(
                steps=_steps(options, config, device, start, vgg, teacher),
                photographs=photographs,
                validation=_validation(options, config, measured, report),
                held_out=held_out,
                out=options.out,
                state=state,
                origin=_origin(options, photographs, start, teacher),
                report=report,
            )
        )
    return 0


def _check(options: argparse.Namespace, config: TrainingConfig) -> None:
    """Check that options and settings fit together, before any picture is read.

    Raises:
        ConfigError, DataError: they do not; the text names the way out.
    """
    refuse_unequal_shares(config.batch, processes())
    if options.workers < 0:
        raise ConfigError(f"--workers is {options.workers}; it must not be negative")
    if options.memory_gb is not None and not 0 <= options.memory_gb * 1e9 < math.inf:
        raise ConfigError(f"--memory-gb is {options.memory_gb}; it must be finite and not negative")
    if config.generator.scale == 1 and not config.learns_damage and not options.low_res:
        raise ConfigError(
            f"{config.name} has scale 1, and without damage its low-res pictures are the high-res ones, so it would "
            "learn to change nothing; add --set degradation=default, or name damaged pictures by --low-res"
        )
    if config.best_by == "lpips" and not options.alexnet_weights:
        raise ConfigError("best_by is lpips, which needs AlexNet; name its weights by --alexnet-weights")
    if config.patience and config.discriminator and config.best_by == "psnr_y":
        raise ConfigError(
            f"patience is {config.patience} and best_by is psnr_y, which falls while a GAN learns texture, so the "
            "result would be hardly trained; add --set best_by=lpips and --alexnet-weights FILE, or leave patience out"
        )


def _begun(options: argparse.Namespace, report: Report) -> tuple[TrainingConfig, Start | None]:
    """Make the config of the recipe, the options and the start; read the start.

    Raises:
        ConfigError: they do not fit together.
        WeightsError: the start cannot be read.
    """
    config = _chosen(options)
    if config.starts_from and not options.start:
        which = "any generator" if config.starts_from == ANY else f"a generator of {config.starts_from}"
        raise ConfigError(f"{config.recipe} begins with {which}; name its file by --start")
    file = read_generator(options.start, options.scale or config.generator.scale) if options.start else None
    if file and config.starts_from == ANY:
        config = _sized(config, file, keep=options.config is not None)
    settings = [*_scaled(config, options.scale), *_settings(options)]
    config = with_settings(config, [*shorter_warm_ups(config, settings), *settings])
    if options.start_discriminator and not config.discriminator:
        raise ConfigError(
            f"this run has no discriminator that could begin with {options.start_discriminator}; leave "
            "--start-discriminator out"
        )
    judge = discriminator_named(options.start_discriminator) if options.start_discriminator else None
    config = replace(config, start=None, start_discriminator=judge, teacher=None)
    if not file:
        return config, None
    config = replace(config, start=named(options.start, file.card.name, file.sha256))
    return config, start_from(file, options.start, config, rescale=options.scale is not None, report=report)


def _sized(config: TrainingConfig, start: Checkpoint, *, keep: bool) -> TrainingConfig:
    """Take the sizes and the name of the start; crops grow by its unshuffle, so the trunk sees the recipe's size.

    Args:
        keep: the config is that of another run: its crops and its padding stay.
    """
    generator, name = start.net.config, f"{start.card.name[:80]}-finetuned"
    if keep:
        generator = replace(generator, padding_mode=config.generator.padding_mode)
        return replace(config, generator=generator, name=name)
    return replace(config, generator=generator, name=name, crop_px=config.crop_px * generator.unshuffle)


def _chosen(options: argparse.Namespace) -> TrainingConfig:
    """Return the config of the recipe, or of another run of it."""
    config = RECIPES[options.command]()
    if options.config:
        config = read_config(options.config)
        if config.recipe != options.command:
            raise ConfigError(
                f"{options.config} is of the recipe {config.recipe}; name that instead of {options.command}"
            )
    return config


def _scaled(config: TrainingConfig, scale: int | None) -> list[str]:
    """Return the settings for another scale, to be applied with all others, since crops depend on the scale."""
    known = config.generator.scale
    if scale in (None, known):
        return []
    finetuned = "-finetuned" if config.starts_from == ANY else ""
    name = config.name.removesuffix(finetuned).removesuffix(f"-x{known}")
    return [f"generator.scale={scale}", f"name={name}-x{scale}{finetuned}"]


def _settings(options: argparse.Namespace) -> list[str]:
    given = {name: getattr(options, name) for name in ("steps", "batch", "seed")}
    return [*(f"{name}={value}" for name, value in given.items() if value is not None), *options.settings]


def _steps(
    options: argparse.Namespace,
    config: TrainingConfig,
    device: torch.device,
    start: Start | None,
    vgg: VGGFeatures | None,
    teacher: Teacher | None,
) -> Steps:
    judge = None
    if options.start_discriminator and config.discriminator:
        judge = read_discriminator(options.start_discriminator, config.discriminator)
    return Steps(
        config,
        device,
        start=start.net if start else None,
        discriminator=judge,
        vgg=vgg,
        teacher=teacher,
        compiled=options.compiled and device.type == "cuda",
    )


def _validation(
    options: argparse.Namespace, config: TrainingConfig, pairs: Mapping[Damage, Pairs], report: Report
) -> Validation:
    if config.discriminator and not options.alexnet_weights:
        report("LPIPS is left out of the measurements; --alexnet-weights FILE adds it")
    alexnet = options.alexnet_weights if this_process() == 0 else None
    lpips = load_lpips(alexnet) if alexnet else None
    return Validation(pairs=pairs, lpips=lpips, report=report)


def _origin(
    options: argparse.Namespace, photographs: Photographs, start: Start | None, teacher: Teacher | None
) -> Origin:
    """Name the pictures, the start and the teacher, whose licences may affect that of the result."""
    trained_on = options.trained_on or f"{photographs.number} pictures of {folder_name(options.data)}"
    return Origin(
        trained_on=f"{trained_on}; taught by {teacher.name}" if teacher else trained_on,
        source=start.source if start else "",
        licence=start.licence if start else "",
    )


def _silent(line: str) -> None:
    """Drop the line: only process 0 reports."""
