"""How measurements are printed: Markdown tables, ready for docs/benchmarks.md, and the bars they are held against."""

import sys
from collections.abc import Iterable, Sequence

import torch


def print_setting(what: str, device: torch.device) -> None:
    """Print what a table is about and what it was measured on."""
    print(f"{what}; torch {torch.__version__}, {device}, {torch.get_num_threads()} threads\n", flush=True)


def print_progress(what: str) -> None:
    """Tell whoever waits how far a long measurement has come, beside the tables."""
    print(what, file=sys.stderr, flush=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table and an empty line."""
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def print_bar(what: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
    """Print a value, the bar it has to clear, and whether it does."""
    cleared = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    bar = f"at least {at_least:.4g}" if at_least is not None else f"at most {at_most:.4g}"
    print(f"- {what}: {value:.4g} ({bar}: {'yes' if cleared else 'NO'})")
