"""`python -m training photographs`: rebuild a set of photographic tiles from Debian packages."""

import argparse
from pathlib import Path

from training.debian.manifest import read_manifest, selected
from training.debian.rebuild import rebuild
from training.terminal import say


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command to its parser."""
    add = command.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the tiles and MANIFEST.csv")
    add("--archive", required=True, metavar="URL", help="root of a Debian mirror, such as http://MIRROR/debian")
    add("--packages", nargs="+", default=(), metavar="NAME", help="take the photographs of these packages only")


def run(options: argparse.Namespace) -> int:
    """Rebuild the tiles, and name the photographs that the archive no longer has."""
    photographs = selected(read_manifest(), options.packages)
    missing = rebuild(options.out, options.archive, photographs, say)
    wanted = [photograph for its in photographs.values() for photograph in its]
    lost = [one.photograph for one in missing]
    found = [photograph for photograph in wanted if photograph not in lost]
    tiles = sum(len(photograph.tiles) for photograph in found)
    say(f"{tiles} tiles of {len(found)} photographs and MANIFEST.csv are in {options.out}")
    if missing:
        say(f"{len(missing)} photographs are missing:")
    for one in missing:
        say(f"  {one.photograph.package} {one.photograph.path}: {one.reason}")
    return 0
