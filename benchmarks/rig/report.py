"""Printing and recording of measurements: Markdown tables, the bars they have to clear, and lines of JSON.

With `--record` a command appends its figures to `benchmarks/results/COMMAND.jsonl`, one line for each setting:

    {"command", "arguments", "setting", "date", "commit", "changed", "processor", "cores", "torch", "device",
     "threads", "load", "tables": [[{HEAD: CELL, ...}, ...], ...], "bars": {NAME: VALUE}}

`commit` is the checkout's, `changed` is true if files differed from it. `load` is the load average of the last
five minutes, the benchmark included: above `threads`, durations are not comparable. A cell that is a number, with or
without a unit, is recorded as a number. Paths are recorded by their last part. `python -m benchmarks.history` draws
these files.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from benchmarks.rig.machine import commit, processor, threads_and_cores

RESULTS = Path(__file__).parents[1] / "results"
"""Folder of the recorded lines, one file for each command."""

NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: (?:x|%|M))?")
"""A cell of one number, with the units that tables use."""


def add_record_option(parser: argparse.ArgumentParser) -> None:
    """Add `--record`."""
    parser.add_argument("--record", action="store_true", help=f"append the figures to {RESULTS.parent.name}/results/")


def print_progress(text: str) -> None:
    """Print how far a long measurement is, to stderr."""
    print(text, file=sys.stderr, flush=True)


class Report:
    """Tables and bars of one run of a command; as a context manager it records them at the end, if all went well.

    Args:
        command: name of the file in `benchmarks/results/`.
        options: the parsed command line; `record` says whether to write.
        folder: where to write.
    """

    def __init__(self, command: str, options: argparse.Namespace, folder: Path = RESULTS) -> None:
        self._command = command
        self._options = options
        self._folder = folder
        self._settings: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, _value: object, _traceback: TracebackType | None) -> None:
        if error is None and getattr(self._options, "record", False):
            self._record()

    def setting(self, text: str, device: torch.device) -> None:
        """Print what the next tables measure and on which device."""
        print(f"{text}; torch {torch.__version__}, {device}, {torch.get_num_threads()} threads\n", flush=True)
        self._settings.append({"setting": text, "device": str(device), "tables": [], "bars": {}})

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a Markdown table and an empty line."""
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        recorded = []
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)
            recorded.append({head: _number(cell) for head, cell in zip(heads, row, strict=True)})
        print()
        self._settings[-1]["tables"].append(recorded)

    def bar(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Print a value, its limit, and whether it is met."""
        cleared = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        limit = f"at least {at_least:.4g}" if at_least is not None else f"at most {at_most:.4g}"
        print(f"- {name}: {value:.4g} ({limit}: {'yes' if cleared else 'NO'})")
        self._settings[-1]["bars"][name] = value

    def _record(self) -> None:
        threads, cores = threads_and_cores()
        sha, changed = commit()
        arguments = {name: _plain(value) for name, value in vars(self._options).items() if name != "record"}
        common: dict[str, Any] = {"command": self._command, "arguments": arguments}
        common |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": sha, "changed": changed}
        common |= {"cores": cores, "threads": threads, "load": os.getloadavg()[1], "torch": torch.__version__}
        path = self._folder / f"{self._command}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for setting in self._settings:
                machine = {"processor": processor(torch.device(setting["device"]))}
                file.write(json.dumps(common | machine | setting) + "\n")
        print(f"Recorded in {path}")


def _number(cell: str) -> float | str:
    match = NUMBER.fullmatch(cell)
    return float(match[1]) if match else cell


def _plain(value: object) -> object:
    """Return an argument as JSON has it; of a path only its last part, since folders differ between machines."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return value.name
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
