"""python -m training RECIPE --data DIR --out DIR · python -m training evaluate --weights FILE --data DIR ..."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from model.checkpoint import WeightsError, record_metrics
from model.upscaler import SelfTestError, load
from training.data import DataError, Pair, read_pairs
from training.evaluate import benchmark_pairs, evaluate, mean, table
from training.recipes import RECIPES
from training.state import StateError
from training.train import train


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 for anything that the caller can put right."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "evaluate":
            _evaluate(options)
        else:
            _train(options)
    except (DataError, StateError, WeightsError, SelfTestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure generators.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="RECIPE | evaluate")
    for name, recipe in RECIPES.items():
        command = commands.add_parser(name, help=(recipe.__doc__ or "").splitlines()[0])
        command.add_argument("--data", type=Path, required=True, help="folder with photographs, searched in depth")
        command.add_argument("--out", type=Path, required=True, help="folder of the run; the same one continues it")
        command.add_argument("--validation", type=Path, help="folder with pictures to measure PSNR-Y on")
        command.add_argument("--trained-on", default="", help="the photographs and their licence, for the weight file")
    command = commands.add_parser("evaluate", help="PSNR-Y and SSIM-Y of a weight file, beside bicubic")
    command.add_argument("--weights", type=Path, required=True, help="the .safetensors file")
    command.add_argument("--data", type=Path, nargs="+", required=True, help="folders: HR with LRbicX4, or pictures")
    command.add_argument("--record", action="store_true", help="write the means into the weight file's metadata")
    return parser


def _train(options: argparse.Namespace) -> None:
    config = RECIPES[options.command]()
    scale = config.generator.scale
    photographs = _read(options.data, scale, least_px=config.crop_px)
    validation = _read(options.validation, scale, least_px=1) if options.validation else []
    trained_on = options.trained_on or f"{len(photographs)} pictures of {options.data.name}"
    print(f"wrote {train(config, photographs, validation, options.out, trained_on=trained_on)}")


def _read(folder: Path, scale: int, *, least_px: int) -> list[Pair]:
    pairs = []
    for pair in tqdm(read_pairs(folder, scale, least_px=least_px), desc=f"reading {folder}", unit="picture"):
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            tqdm.write(f"left out: {pair}")
    return pairs


def _evaluate(options: argparse.Namespace) -> None:
    upscaler, _ = load(options.weights)
    metrics = {}
    for folder in options.data:
        pairs = tqdm(benchmark_pairs(folder, upscaler.scale), desc=folder.name, unit="picture", leave=False)
        scores = evaluate(upscaler, pairs)
        average = mean(folder.name, scores)
        metrics[folder.name] = {"psnr_y": round(average.psnr_y, 3), "ssim_y": round(average.ssim_y, 4)}
        print(f"\n{table([*scores, average])}")
    if options.record:
        record_metrics(options.weights, metrics)


if __name__ == "__main__":
    sys.exit(main())
