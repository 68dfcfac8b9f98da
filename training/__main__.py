"""python -m training RECIPE | doctor | evaluate | photographs | render; `--help` after any lists its options."""

import argparse
import logging
import sys
from collections.abc import Callable

from model.device import DeviceMemoryError, memory_errors
from model.errors import WeightsError
from model.golden import SelfTestError
from model.gpu import DeviceError
from training.commands import doctor, evaluate, photographs, render, train
from training.errors import Mistake
from training.recipes import RECIPES
from training.terminal import printable

MISTAKES = (Mistake, DeviceError, DeviceMemoryError, OSError, SelfTestError, WeightsError)
"""Errors that the user can fix; all others are bugs and keep their traceback."""

OTHERS = (
    ("doctor", doctor.add_options, doctor.run, "name every picture that would harm a run"),
    ("evaluate", evaluate.add_options, evaluate.run, "measure weight files next to bicubic"),
    ("photographs", photographs.add_options, photographs.run, "photographic tiles out of Debian packages, to train on"),
    ("render", render.add_options, render.run, "pictures of text, screens, charts and drawings to train on"),
)
"""The commands that are no recipes: name, what adds its options, what runs it, and a line of help."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 1 for the doctor's findings, 2 for an error that the user can fix."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("training").setLevel(logging.INFO)  # not other projects' loggers
    try:
        command: Callable[[argparse.Namespace], int] = options.run
        with memory_errors():
            return command(options)
    except MISTAKES as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train and measure generators.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="RECIPE | COMMAND")
    for name, recipe in RECIPES.items():
        description = recipe.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.splitlines()[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        train.add_options(command)
        command.set_defaults(run=train.run)
    for name, add_options, run, text in OTHERS:
        command = commands.add_parser(name, help=text)
        add_options(command)
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
