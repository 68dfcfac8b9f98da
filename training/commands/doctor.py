"""`python -m training doctor`: name every picture that would harm a run."""

import argparse
from pathlib import Path

from model.rrdb import SCALES
from training import doctor
from training.terminal import printable


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command to its parser."""
    command.add_argument("--data", type=Path, required=True, help="folder of photographs, with its subfolders")
    command.add_argument("--low-res", type=Path, metavar="DIR", help="their low-res pictures, to check each pair")
    command.add_argument("--scale", type=int, default=4, choices=SCALES, help="of the pairs (default 4)")
    command.add_argument(
        "--min-px",
        "--least-px",
        dest="min_px",
        type=int,
        default=128,
        help="shortest side that the run can use (default 128; docs/training.md has those of the recipes)",
    )


def run(options: argparse.Namespace) -> int:
    """Examine a folder and print the findings; returns 1 where there are any."""
    report = doctor.examine(options.data, min_px=options.min_px, scale=options.scale, low_res=options.low_res)
    print(printable("\n".join(report.lines())))
    return 1 if report.findings else 0
