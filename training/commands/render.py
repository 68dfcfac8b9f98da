"""`python -m training render`: draw pictures of text, screens, charts and drawings to train on."""

import argparse
from pathlib import Path

from tqdm import tqdm

from training.rendered.render import render
from training.rendered.sources import find_sources


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command to its parser."""
    add = command.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the PNG files and MANIFEST.csv")
    add("--count", type=int, required=True, help="number of pictures")
    add("--seed", type=int, default=1, help="picture k is a function of the seed and k (default 1)")
    add("--side", type=int, default=512, help="width and height in pixels (default 512)")
    add("--photographs", type=Path, metavar="DIR", help="photographs to set into screens and posters")


def run(options: argparse.Namespace) -> int:
    """Draw the pictures and say where they are."""
    sources = find_sources(options.photographs)
    pictures = render(options.out, options.count, options.seed, sources, side=options.side)
    for _ in tqdm(pictures, total=options.count, unit="picture"):
        pass
    print(f"wrote {options.count} pictures and MANIFEST.csv to {options.out}")
    return 0
