"""python -m benchmarks.history: recorded results over time, as a table and as a drawing.

Reads the files that `--record` appends to. A figure is one number of a command and its setting: a bar, or a cell of a
table. Lines of the drawing are processors, since figures of different processors cannot be compared.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.rig.report import RESULTS

COLUMNS = 3
PANEL_INCHES = (5.5, 3.2)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One recorded value of a figure."""

    date: datetime
    commit: str
    """First digits; with `+` where files differed from the commit, `-` where there was none."""
    processor: str
    value: float


Figures = Mapping[str, Sequence[Point]]
"""Points by the name of the figure, in the order of their dates."""


def main() -> None:
    """Print the last two values of every figure and draw all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("commands", nargs="*", help="commands to show, such as png (default: all)")
    parser.add_argument("--figure", default="", metavar="TEXT", help="show only figures whose name contains TEXT")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of recorded results")
    parser.add_argument("--out", type=Path, default=Path("runs/history.png"), help="drawing to write: PNG or SVG")
    options = parser.parse_args()

    figures = {
        name: points for name, points in read(options.results, options.commands).items() if options.figure in name
    }
    if not figures:
        raise SystemExit(f"no such figures in {options.results}; record some with `make bench-png ARGS=--record`")
    print("\n".join(table(figures)))
    try:
        draw(figures, options.out)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} draws the figures and is not installed: `make bench` installs it") from error
    print(f"\n{options.out} shows {len(figures)} figures.")


def read(folder: Path, commands: Sequence[str] = ()) -> Figures:
    """Return all recorded figures of some commands, or of all."""
    figures: dict[str, list[Point]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        if commands and path.stem not in commands:
            continue
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            for name, value in _values(line):
                figures.setdefault(f"{line['command']}: {line['setting']}: {name}", []).append(_point(line, value))
    return {name: sorted(points, key=lambda point: point.date) for name, points in figures.items()}


def table(figures: Figures) -> Iterator[str]:
    """Yield a Markdown table: the last value of each figure on each processor, and its change since the one before."""
    yield "| figure | processor | commit | value | change |\n|---|---|---|---|---|"
    for name, points in figures.items():
        for processor, own in _by_processor(points).items():
            before, last = own[-2:] if len(own) > 1 else (None, own[-1])
            change = f"{100 * (last.value / before.value - 1):+.1f} %" if before and before.value else ""
            yield f"| {name} | {processor} | {last.commit} | {last.value:.4g} | {change} |"


def draw(figures: Figures, path: Path) -> None:
    """Draw one panel for each figure, with a line for each processor.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # in the extra `bench`

    columns = min(COLUMNS, len(figures))
    rows = -(-len(figures) // columns)
    width, height = PANEL_INCHES
    sheet = Figure(figsize=(columns * width, rows * height), layout="constrained")
    for place, (name, points) in enumerate(figures.items(), start=1):
        panel = sheet.add_subplot(rows, columns, place)
        for processor, own in _by_processor(points).items():
            dates: Any = [point.date for point in own]  # matplotlib takes dates; its stub does not say so
            panel.plot(dates, [point.value for point in own], marker="o", label=processor)
        panel.set_title(name, fontsize=7, wrap=True)
        panel.set_ylim(bottom=0)
        panel.tick_params(labelsize=7)
        panel.tick_params(axis="x", rotation=30)
        panel.legend(fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=100)


def _values(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a line; a cell is named by the texts of its row and the head of its column."""
    yield from line["bars"].items()
    for rows in line["tables"]:
        for row in rows:
            labels = ", ".join(value for value in row.values() if isinstance(value, str) and value)
            for head, value in row.items():
                if isinstance(value, int | float):
                    yield f"{labels}: {head}", value


def _point(line: Mapping[str, Any], value: float) -> Point:
    commit = (line["commit"] or "-")[:8] + ("+" if line["changed"] else "")
    date = datetime.fromisoformat(line["date"])
    return Point(date=date, commit=commit, processor=line["processor"], value=float(value))


def _by_processor(points: Sequence[Point]) -> dict[str, list[Point]]:
    grouped: dict[str, list[Point]] = {}
    for point in points:
        grouped.setdefault(point.processor, []).append(point)
    return grouped


if __name__ == "__main__":
    main()
