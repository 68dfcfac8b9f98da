"""`python -m training evaluate`: measure weight files next to bicubic, on pictures and on flat colours."""

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

import torch
from tqdm import tqdm

from model.errors import WeightsError
from model.files.checkpoint import FORMAT, record_metrics
from model.files.reading import read_any
from model.reliable import ReliableUpscaler
from model.rrdb import SCALES
from training.damage import DAMAGES, damaged_pair
from training.data import DataError, folder_name
from training.evaluate import (
    USUAL_MEASURES,
    SetScores,
    as_service,
    bicubic,
    evaluate,
    pairs_to_measure,
    save,
    summary_table,
)
from training.flat import LATTICE, FlatScores, flat_scores, flat_table
from training.lpips import LPIPS, load_lpips
from training.measures import MEASURES
from training.pairs import find_pairs
from training.terminal import note, printable


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command to its parser."""
    add = command.add_argument
    add("--weights", type=Path, nargs="+", required=True, metavar="FILE", help="weight files of any kind")
    add("--scale", type=int, choices=SCALES, help="scale of the weight files; needed for x3 only")
    add("--data", type=Path, nargs="+", default=[], metavar="DIR", help="folders of pictures to measure on")
    add(
        "--low-res", type=Path, nargs="+", default=[], metavar="DIR", help="their low-res pictures, one folder for each"
    )
    add("--damage", nargs="+", choices=DAMAGES, help="kinds of uploads to make from the originals, and measure on")
    add(
        "--flat",
        type=_lattice,
        nargs="?",
        const=LATTICE,
        metavar="N",
        help="measure on N x N x N flat colours (%(const)s without a number); a paper-size network is slow: take 6",
    )
    usual = " ".join(USUAL_MEASURES)
    add("--measure", nargs="+", choices=MEASURES, metavar="MEASURE", help=f"of {', '.join(MEASURES)} (default {usual})")
    add("--alexnet-weights", type=Path, metavar="FILE", help="AlexNet of LPIPS; without it torchvision's")
    add("--exact", action="store_true", help="in float32, not in the number format that is fastest here")
    add(
        "--out",
        type=Path,
        default=Path("runs/evaluation"),
        help="where the tables go, as .md and .json; replaces those of the last time (default %(default)s)",
    )
    add("--save", type=Path, metavar="DIR", help="write the upscaled pictures too: SET/GENERATOR/PICTURE.png")
    add("--record", action="store_true", help="write the means into each weight file's metadata")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, save them, and record the means if asked to."""
    _check(options)
    loaded = _loaded(options)
    results = list(_measured(options, loaded))
    flat = [flat_scores(name, upscaler, options.flat) for name, upscaler in loaded.items()] if options.flat else []
    saved = " and ".join(map(str, save(results, options.out, flat)))  # before anything else can go wrong
    means = [summary_table(results)] if results else []
    print(printable("\n\n".join([*means, *([flat_table(flat)] if flat else []), f"wrote {saved}"])))
    if options.record:
        for path in options.weights:
            record_metrics(path, _recorded(path.stem, results, flat))
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check that options fit together, before any file is read.

    Raises:
        DataError: they do not, there is nothing to measure on, or two files have one name.
    """
    if not options.data and not options.flat:
        raise DataError("there is nothing to measure on; name folders by --data, or take --flat")
    if options.damage and not options.data:
        raise DataError("--damage is made from originals; name their folders by --data")
    if options.save and not options.data:
        raise DataError("--save writes upscaled pictures; name their folders by --data")
    if options.damage and options.low_res:
        raise DataError("--damage makes its low-res pictures itself; leave --low-res out")
    if options.low_res and len(options.low_res) != len(options.data):
        raise DataError(
            f"--data names {len(options.data)} folders and --low-res {len(options.low_res)}; give each folder its own"
        )
    names = Counter(path.stem for path in options.weights) + Counter(["bicubic"])
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(f"more than one generator is named {', '.join(twice)}; rename the files")


def _loaded(options: argparse.Namespace) -> dict[str, ReliableUpscaler]:
    """Load the weight files, by their names.

    Raises:
        DataError: one has another scale than the options say, or cannot be recorded in.
    """
    loaded = {}
    for path in options.weights:
        checkpoint = read_any(path, scale=options.scale)
        upscaler = ReliableUpscaler(checkpoint, dtype=torch.float32 if options.exact else None)
        if options.scale not in (None, upscaler.scale):
            raise DataError(f"{path} enlarges by {upscaler.scale}, and --scale is {options.scale}")
        loaded[path.stem] = upscaler
        if options.record and checkpoint.format != FORMAT:
            raise DataError(
                f"{path} is {checkpoint.format}; --record writes into our own files only; convert it by "
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
    measures = options.measure or USUAL_MEASURES
    names = _names(options.data)
    folders = list(zip_longest(options.data, options.low_res))
    for folder, low_res in folders:
        for line in find_pairs(folder, scale, low_res).notes:
            note(line)
    lpips = _lpips(options) if "lpips" in measures else None  # after a look at every folder: it may download weights
    for folder, low_res in folders:
        for kind in options.damage or (None,):
            pairs = pairs_to_measure(folder, scale, low_res)
            if kind:
                pairs = (damaged_pair(pair, kind) for pair in pairs)
            name = f"{names[folder]} {kind}" if kind else names[folder]
            seen = tqdm(pairs, desc=printable(name), unit="picture", leave=False)
            yield from evaluate(name, seen, generators, measures, lpips, options.save)


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """Name sets by their folders, with the folder around it where two have the same name."""
    names = {folder: folder_name(folder) for folder in folders}
    times = Counter(names.values())
    return {
        folder: name if times[name] == 1 else f"{folder.absolute().parent.name}/{name}"
        for folder, name in names.items()
    }


def _lpips(options: argparse.Namespace) -> LPIPS | None:
    """Load LPIPS; it is left out, with a line that says so, if AlexNet is missing and it was not requested.

    Raises:
        WeightsError: AlexNet is missing, and `--measure` names LPIPS or `--alexnet-weights` a file.
    """
    try:
        return load_lpips(options.alexnet_weights)
    except WeightsError as error:
        if options.measure or options.alexnet_weights:
            raise
        note(f"LPIPS is left out: {error}")
        return None


def _recorded(generator: str, results: list[SetScores], flat: list[FlatScores]) -> dict[str, dict[str, float]]:
    """Return the means to record in a weight file, by set, without those that are missing or not finite."""
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
    if not text.isdecimal() or not 2 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of values a channel; take 2 to 256")
    return int(text)
