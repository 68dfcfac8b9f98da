"""python -m training RECIPE | doctor | evaluate | interpolate; `--help` after any of them tells its options."""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from model.checkpoint import FORMAT, Checkpoint, WeightsError, record_metrics, write_checkpoint
from model.interpolation import InterpolationError, interpolate
from model.reading import read
from model.reliable import SelfTestError, load
from training import doctor
from training.config import ConfigError, TrainingConfig
from training.data import DataError, Pair, read_pairs
from training.distributed import joined, this_process
from training.evaluate import (
    LEAST_PX,
    SetScores,
    as_service,
    benchmark_pairs,
    bicubic,
    evaluate,
    picture_table,
    printable,
    save,
    summary_table,
)
from training.lpips import load_lpips
from training.perceptual import CAFFE, CAFFE_FEATURE_SCALE, VGGError, VGGFeatures, load_vgg
from training.recipes import RECIPES
from training.sources import hold_out, open_photographs
from training.state import StateError
from training.steps import DivergedError, Steps
from training.train import Run, refuse_finished, train

MISTAKES = (
    ConfigError,
    DataError,
    DivergedError,
    InterpolationError,
    SelfTestError,
    StateError,
    VGGError,
    WeightsError,
    OSError,
)
"""What the caller can put right; anything else is ours, and shows its traceback."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 1 for the doctor's findings, 2 for what the caller can put right."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.run
        return command(options)
    except MISTAKES as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure generators.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="RECIPE | doctor | evaluate | interpolate")
    for name, recipe in RECIPES.items():
        description = recipe.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.splitlines()[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_recipe_options(command)
        command.set_defaults(run=_train)
    _add_doctor(commands.add_parser("doctor", help="name every picture that would harm a run"))
    _add_evaluate(commands.add_parser("evaluate", help="measure weight files beside bicubic"))
    _add_interpolate(commands.add_parser("interpolate", help="a generator between a PSNR and a GAN one"))
    return parser


def _add_recipe_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--data", type=Path, required=True, help="folder with photographs, searched in depth")
    add("--out", type=Path, required=True, help="folder of the run; the same one continues it")
    add("--validation", type=Path, help="pictures to measure PSNR-Y on; without it a few of --data are kept aside")
    add("--start", type=Path, metavar="FILE", help="weight file of any kind to go on from; a GAN recipe needs one")
    add("--trained-on", default="", help="the photographs and their licence, for the weight file")
    add("--vgg-weights", type=Path, metavar="FILE", help="VGG19 of the perceptual loss; without it torchvision's")
    add("--memory-gb", type=float, help="memory for decoded photographs; without it half of what the device has free")
    add("--workers", type=int, default=4, help="processes that decode where the photographs do not fit (default 4)")
    add("--steps", type=int, help="instead of the recipe's")
    add("--batch", type=int, help="instead of the recipe's")
    add("--seed", type=int, help="instead of the recipe's")
    add("--method", choices=("adam", "muon"), help="the generator's optimiser, instead of the recipe's")
    add("--no-compile", dest="compiled", action="store_false", help="do not let torch compile the generator on a GPU")


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with photographs, searched in depth")
    command.add_argument("--least-px", type=int, default=128, help="shortest side that a run can use (default 128)")
    command.set_defaults(run=_doctor)


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--weights", type=Path, nargs="+", required=True, metavar="FILE", help="files of any kind that serves")
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="folders: HR with LRbicX4, or pictures")
    add("--alexnet-weights", type=Path, metavar="FILE", help="AlexNet of LPIPS; without it torchvision's")
    add("--no-lpips", dest="lpips", action="store_false", help="leave LPIPS out, which needs AlexNet")
    add("--exact", action="store_true", help="in float32, not in the number format that is fastest here")
    add("--out", type=Path, default=Path("runs/evaluation"), help="where the tables go, as .md and .json (%(default)s)")
    add("--record", action="store_true", help="write the means into each weight file's metadata")
    command.set_defaults(run=_evaluate)


def _add_interpolate(command: argparse.ArgumentParser) -> None:
    command.add_argument("psnr", type=Path, metavar="PSNR_FILE")
    command.add_argument("gan", type=Path, metavar="GAN_FILE")
    command.add_argument("--alpha", type=float, required=True, help="0 is the first, 1 the second")
    command.add_argument(
        "-o", "--out", type=Path, required=True, help="the weight file to write; its name is the model's"
    )
    command.set_defaults(run=_interpolate)


def _train(options: argparse.Namespace) -> int:
    config = _chosen(options)
    with joined() as device:
        report = tqdm.write if this_process() == 0 else _silent
        start = _start(options.start, config) if options.start else None
        losses = config.losses
        vgg = load_vgg(options.vgg_weights, device, losses.perceptual_layers) if losses.perceptual else None
        config = _scaled(config, vgg)
        refuse_finished(options.out, config)
        held_out = frozenset() if options.validation else hold_out(options.data)
        photographs = open_photographs(
            options.data,
            config,
            device,
            leave_out=held_out,
            most_bytes=None if options.memory_gb is None else int(options.memory_gb * 1e9),
            workers=options.workers,
            report=report,
        )
        run = Run(
            steps=Steps(
                config,
                device,
                start=start.net if start else None,
                vgg=vgg,
                compiled=options.compiled and device.type == "cuda",
            ),
            photographs=photographs,
            validation=_validation(options.validation, options.data, held_out, config.generator.scale, report),
            out=options.out,
            trained_on=options.trained_on or f"{photographs.number} pictures of {options.data.name}",
            report=report,
        )
        path = train(run)
        report(f"wrote {path}")
    return 0


def _chosen(options: argparse.Namespace) -> TrainingConfig:
    """The recipe with what the command line says instead."""
    config = RECIPES[options.command]()
    if config.starts_from and not options.start:
        raise ConfigError(
            f"{config.recipe} goes on from a generator of {config.starts_from}; name its file with --start"
        )
    given = {name: getattr(options, name) for name in ("steps", "batch", "seed")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.method:
        changes["optimiser"] = replace(config.optimiser, method=options.method)
    return replace(config, **changes)


def _start(path: Path, config: TrainingConfig) -> Checkpoint:
    scale = config.generator.scale if config.generator.scale == 3 else None  # which the weights themselves do not tell
    start = read(path, scale=scale)
    if start.net.config != config.generator:
        raise ConfigError(f"{path} is a network of {start.net.config}; {config.recipe} needs {config.generator}")
    return start


def _scaled(config: TrainingConfig, vgg: VGGFeatures | None) -> TrainingConfig:
    """The config with the feature scale that belongs to the loaded VGG19."""
    if vgg is None or vgg.normalisation is not CAFFE or config.losses.feature_scale is None:
        return config
    return replace(config, losses=replace(config.losses, feature_scale=CAFFE_FEATURE_SCALE))


def _validation(
    given: Path | None, data: Path, held_out: frozenset[Path], scale: int, report: Callable[[str], None]
) -> list[Pair]:
    pairs = []
    for pair in read_pairs(given or data, scale, least_px=LEAST_PX // scale, only=None if given else held_out):
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            report(f"left out: {pair}")
    return pairs


def _silent(line: str) -> None:
    """What the processes that do not report make of their lines."""


def _doctor(options: argparse.Namespace) -> int:
    report = doctor.examine(options.data, least_px=options.least_px)
    print("\n".join(report.lines()))
    return 1 if report.findings else 0


def _evaluate(options: argparse.Namespace) -> int:
    names = Counter(path.stem for path in options.weights) + Counter(["bicubic"])
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(f"more than one generator is named {', '.join(twice)}; rename the files")
    loaded = {path: load(path, dtype=torch.float32 if options.exact else None) for path in options.weights}
    if options.record and (foreign := [str(path) for path, (_, one) in loaded.items() if one.format != FORMAT]):
        raise DataError(f"--record writes into files of ours only; convert {', '.join(foreign)} first, or leave it out")
    scales = {upscaler.scale for upscaler, _ in loaded.values()}
    if len(scales) > 1:
        raise DataError(f"the weight files have the scales {sorted(scales)}; measure those of one scale at a time")
    (scale,) = scales
    upscalers = {path.stem: as_service(upscaler) for path, (upscaler, _) in loaded.items()}
    lpips = load_lpips(options.alexnet_weights, torch.device("cpu")) if options.lpips else None
    results: list[SetScores] = []
    for folder in options.data:
        pairs = tqdm(benchmark_pairs(folder, scale), desc=printable(folder.name), unit="picture", leave=False)
        results += evaluate(folder.name, pairs, {"bicubic": bicubic(scale)} | upscalers, lpips)
    saved = " and ".join(map(str, save(results, options.out)))  # before anything else can go wrong
    print(printable("\n\n".join([*map(picture_table, results), summary_table(results), f"wrote {saved}"])))
    if options.record:
        for path in options.weights:
            record_metrics(path, {one.set: _recorded(one) for one in results if one.generator == path.stem})
    return 0


def _recorded(result: SetScores) -> dict[str, float]:
    """The means that go into a weight file."""
    measures = asdict(result.mean).items()
    return {name: round(value, 4) for name, value in measures if value is not None and math.isfinite(value)}


def _interpolate(options: argparse.Namespace) -> int:
    psnr, gan = read(options.psnr), read(options.gan)
    net = interpolate(psnr, gan, options.alpha)
    card = replace(
        psnr.card,
        name=options.out.stem,
        recipe=f"interpolate {psnr.card.name} {gan.card.name} --alpha {options.alpha}",
        metrics={},
    )
    write_checkpoint(options.out, net, card, golden_input=psnr.golden_input)
    print(printable(f"wrote {options.out}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
