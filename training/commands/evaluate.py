"""`python -m training evaluate`: measure weight files next to bicubic, on pictures and on flat colours."""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from model.checkpoint import FORMAT, record_metrics
from model.reliable import ReliableUpscaler, load
from training.damage import DAMAGES
from training.data import DataError
from training.evaluate import (
    SetScores,
    as_service,
    benchmark_pairs,
    bicubic,
    damaged_originals,
    evaluate,
    picture_table,
    printable,
    save,
    summary_table,
)
from training.flat import LATTICE, FlatScores, flat_scores, flat_table
from training.lpips import load_lpips


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command to its parser."""
    add = command.add_argument
    add("--weights", type=Path, nargs="+", required=True, metavar="FILE", help="weight files of any kind")
    add("--data", type=Path, nargs="+", default=[], metavar="DIR", help="folders: HR with LRbicX4, or pictures")
    add("--damage", nargs="+", choices=DAMAGES, help="kinds of uploads to make from the originals, and measure on")
    add(
        "--flat",
        type=_lattice,
        nargs="?",
        const=LATTICE,
        metavar="N",
        help="measure on N x N x N flat colours (%(const)s without a number); a paper-size network is slow: take 6",
    )
    add("--alexnet-weights", type=Path, metavar="FILE", help="AlexNet of LPIPS; without it torchvision's")
    add("--no-lpips", dest="lpips", action="store_false", help="leave LPIPS out, which needs AlexNet")
    add("--exact", action="store_true", help="in float32, not in the number format that is fastest here")
    add("--out", type=Path, default=Path("runs/evaluation"), help="where the tables go, as .md and .json (%(default)s)")
    add("--record", action="store_true", help="write the means into each weight file's metadata")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, save them, and record the means where asked to."""
    loaded = _loaded(options)
    results = list(_measured(options, loaded))
    flat = [flat_scores(name, upscaler, options.flat) for name, upscaler in loaded.items()] if options.flat else []
    tables = [*map(picture_table, results), *([summary_table(results)] if results else [])]
    saved = " and ".join(map(str, save(results, options.out, flat)))  # before anything else can go wrong
    print(printable("\n\n".join([*tables, *([flat_table(flat)] if flat else []), f"wrote {saved}"])))
    if options.record:
        for path in options.weights:
            record_metrics(path, _recorded(path.stem, results, flat))
    return 0


def _loaded(options: argparse.Namespace) -> dict[str, ReliableUpscaler]:
    """Load the weight files, by their names.

    Raises:
        DataError: there is nothing to measure on, two files have one name, or one cannot be recorded in.
    """
    if not options.data and not options.flat:
        raise DataError("there is nothing to measure on; name folders by --data, or take --flat")
    if options.damage and not options.data:
        raise DataError("--damage is made from originals; name their folders by --data")
    names = Counter(path.stem for path in options.weights) + Counter(["bicubic"])
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(f"more than one generator is named {', '.join(twice)}; rename the files")
    loaded = {}
    for path in options.weights:
        loaded[path.stem], checkpoint = load(path, dtype=torch.float32 if options.exact else None)
        if options.record and checkpoint.format != FORMAT:
            raise DataError(
                f"{path} is {checkpoint.format}; --record writes into files of ours only; convert it by "
                "`python -m model convert`"
            )
    return loaded


def _measured(options: argparse.Namespace, loaded: dict[str, ReliableUpscaler]) -> Iterator[SetScores]:
    """Measure every generator on every set."""
    if not options.data:
        return
    scales = {upscaler.scale for upscaler in loaded.values()}
    if len(scales) > 1:
        raise DataError(f"the weight files have the scales {sorted(scales)}; measure those of one scale at a time")
    (scale,) = scales
    generators = {"bicubic": bicubic(scale)} | {name: as_service(upscaler) for name, upscaler in loaded.items()}
    lpips = load_lpips(options.alexnet_weights, torch.device("cpu")) if options.lpips else None
    for folder in options.data:
        if options.damage:
            sets = {f"{folder.name} {kind}": damaged_originals(folder, scale, kind) for kind in options.damage}
        else:
            sets = {folder.name: benchmark_pairs(folder, scale)}
        for name, pairs in sets.items():
            yield from evaluate(name, tqdm(pairs, desc=printable(name), unit="picture", leave=False), generators, lpips)


def _recorded(generator: str, results: list[SetScores], flat: list[FlatScores]) -> dict[str, dict[str, float]]:
    """Choose what goes into a weight file: by set, the means that are numbers."""
    measured = {one.set: asdict(one.mean) for one in results if one.generator == generator}
    measured |= {one.set: one.numbers() for one in flat if one.generator == generator}
    return {
        name: {
            measure: round(value, 4) for measure, value in means.items() if value is not None and math.isfinite(value)
        }
        for name, means in measured.items()
    }


def _lattice(text: str) -> int:
    """Parse the side of the lattice of flat colours."""
    side = int(text)
    if not 2 <= side <= 256:
        raise argparse.ArgumentTypeError(f"{side} values a channel; take 2 to 256")
    return side
