"""`python -m training RECIPE`: train a generator, or continue a run that was killed."""

import argparse
from dataclasses import replace
from pathlib import Path

from model.checkpoint import Checkpoint
from model.reading import read
from training.commands import pictures
from training.config import ConfigError, TrainingConfig
from training.distributed import joined, this_process
from training.perceptual import CAFFE, CAFFE_FEATURE_SCALE, VGGFeatures, load_vgg
from training.recipes import RECIPES
from training.steps import Steps
from training.terminal import say
from training.train import Run, refuse_finished, train


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that every recipe has to its parser."""
    add = command.add_argument
    pictures.add_options(command)
    add("--out", type=Path, required=True, help="folder of the run; the same one continues it")
    add("--start", type=Path, metavar="FILE", help="weight file of any kind to begin with; a GAN recipe needs one")
    add("--trained-on", default="", help="the photographs and their licence, for the weight file")
    add("--vgg-weights", type=Path, metavar="FILE", help="VGG19 of the perceptual loss; without it torchvision's")
    add("--steps", type=int, help="instead of the recipe's; more of them continue a run that was killed")
    add("--batch", type=int, help="instead of the recipe's")
    add("--seed", type=int, help="instead of the recipe's")
    add("--method", choices=("adam", "muon"), help="the generator's optimiser, instead of the recipe's")
    add("--no-compile", dest="compiled", action="store_false", help="do not let torch compile the generator on a GPU")


def run(options: argparse.Namespace) -> int:
    """Run the recipe that the command names."""
    config = _chosen(options)
    with joined() as device:
        report = say if this_process() == 0 else _silent
        start = _start(options.start, config) if options.start else None
        losses = config.losses
        vgg = load_vgg(options.vgg_weights, device, losses.perceptual_layers) if losses.perceptual else None
        config = _scaled(config, vgg)
        refuse_finished(options.out, config)
        photographs, validation = pictures.open_pictures(options, config, device, report)
        training = Run(
            steps=Steps(
                config,
                device,
                start=start.net if start else None,
                vgg=vgg,
                compiled=options.compiled and device.type == "cuda",
            ),
            photographs=photographs,
            validation=validation,
            out=options.out,
            trained_on=options.trained_on or f"{photographs.number} pictures of {options.data.name}",
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


def _scaled(config: TrainingConfig, vgg: VGGFeatures | None) -> TrainingConfig:
    """Set the feature scale that belongs to the loaded VGG19."""
    if vgg is None or vgg.normalisation is not CAFFE or config.losses.feature_scale is None:
        return config
    return replace(config, losses=replace(config.losses, feature_scale=CAFFE_FEATURE_SCALE))


def _silent(line: str) -> None:
    """Drop the line: only process 0 reports."""
