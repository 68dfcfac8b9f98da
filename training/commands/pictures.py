"""The options of a run that name its pictures, and the pictures that they name."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from training.config import TrainingConfig
from training.damage import DAMAGES, Damage
from training.data import DataError, Pairs
from training.distributed import from_process_0, this_process
from training.pairs import PairFiles, PictureSet, find_pairs
from training.sources import HeldOutNames, Photographs, hold_out, open_photographs
from training.validation_set import is_measurable, validation_set


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a recipe."""
    add = command.add_argument
    add("--data", type=Path, required=True, help="folder of photographs, with its subfolders")
    add("--low-res", type=Path, metavar="DIR", help="their low-res pictures, by name; without it made by bicubic")
    add("--validation", type=Path, help="pictures to measure on; without it a few of --data are kept aside")
    add("--validation-low-res", type=Path, metavar="DIR", help="low-res pictures of --validation")
    add("--memory-gb", type=float, help="memory for decoded pictures; without it half of what the device has free")
    add("--cache", type=Path, metavar="DIR", help="folder for decoded pictures, which later runs find there")
    add("--workers", type=int, default=4, help="processes that read where the pictures do not fit (default 4)")


def open_pictures(
    options: argparse.Namespace,
    config: TrainingConfig,
    device: torch.device,
    report: Callable[[str], None],
    before: HeldOutNames | None,
) -> tuple[Photographs, dict[Damage, Pairs], HeldOutNames | None]:
    """Open the pictures to train on, and those to measure on by the kind of upload (only in process 0).

    Args:
        before: the names that the continued run held out.

    Returns:
        Both, and the names that are held out; None with --validation.

    Raises:
        DataError: the options do not fit together, or a folder cannot be used.
    """
    _check_folders(options, config)
    scale = config.generator.scale
    pictures = find_pairs(options.data, scale, options.low_res)
    if options.validation:
        (measured, left_out), names = _of_validation(options, pictures, scale, report), None
    else:
        held_out = hold_out(pictures, report, before, measurable=partial(is_measurable, scale=scale))
        measured, left_out, names = held_out.measured, held_out.left_out, held_out.names(pictures.folder)
    kinds = DAMAGES if config.learns_damage else DAMAGES[:1]
    sets = validation_set(measured, scale, kinds, report) if this_process() == 0 else {}
    from_process_0(lambda: None if sets else _check_unmeasured(options.validation, config, report))
    photographs = open_photographs(
        pictures,
        config,
        device,
        leave_out=left_out,
        max_bytes=None if options.memory_gb is None else int(options.memory_gb * 1e9),
        cache=options.cache,
        workers=options.workers,
        report=report,
    )
    return photographs, sets, names


def _check_folders(options: argparse.Namespace, config: TrainingConfig) -> None:
    """Check that the folders of a run fit together.

    Raises:
        DataError: one of low-res pictures has no use.
    """
    if options.low_res and config.degradation:
        raise DataError(
            f"{config.recipe} makes its low-res pictures itself; leave --low-res out or take another recipe"
        )
    if options.validation_low_res and not options.validation:
        raise DataError("--validation-low-res belongs to --validation; name that folder too")


def _of_validation(
    options: argparse.Namespace, pictures: PictureSet, scale: int, report: Callable[[str], None]
) -> tuple[Sequence[PairFiles], frozenset[Path]]:
    """Find the pictures of --validation, and those of --data that are among them.

    Raises:
        DataError: the folder holds no picture, or no other than these is left to train on.
    """
    others = find_pairs(options.validation, scale, options.validation_low_res)
    for line in (*others.notes, *(f"left out: {line}" for line in others.problems)):
        report(line)
    left_out = _shared(pictures, others)
    if left_out and len(left_out) == len(pictures.files):
        raise DataError(
            f"all {len(left_out)} pictures of --data belong to --validation, so none is left to train on; name "
            "other ones, or leave --validation out, and some are kept aside"
        )
    if left_out:
        report(f"{len(left_out)} pictures of --data belong to --validation; they are measured and not trained on")
    return others.files, left_out


def _check_unmeasured(validation: Path | None, config: TrainingConfig, report: Callable[[str], None]) -> None:
    """Check that a run without a picture to measure on needs no scores, and say that it has none.

    Raises:
        DataError: it needs them.
    """
    if validation:
        raise DataError(f"no picture of {validation} can be measured; name other ones, or leave --validation out")
    needs = [f"patience is {config.patience}"] if config.patience else []
    needs += ["best_by is lpips"] if config.best_by == "lpips" else []
    if needs:
        raise DataError(f"{' and '.join(needs)}, and the run measures nothing; name other pictures by --validation")
    report("the run measures nothing; name other pictures by --validation")


def _shared(pictures: PictureSet, others: PictureSet) -> frozenset[Path]:
    """Return the files of a set that are also in another set, under any name."""
    known = {file.high_res.resolve() for file in others.files}
    return frozenset(file.high_res for file in pictures.files if file.high_res.resolve() in known)
