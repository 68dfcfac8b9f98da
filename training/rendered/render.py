"""Render a folder of pictures with a list of what each one holds and its licence."""

import csv
from collections.abc import Iterator
from pathlib import Path

from training.errors import Mistake
from training.rendered.kinds import KINDS
from training.rendered.packages import licence
from training.rendered.scene import PHOTOGRAPH, Scene
from training.rendered.sources import Sources

COLUMNS = ("file", "kind", "used", "package", "version", "licence")
MIN_SIDE, MAX_SIDE = 256, 4096
"""Below the least, layouts have no room; above the most, a picture takes minutes."""


class RenderError(Mistake):
    """The folder, the number or the size of pictures cannot be used."""


def render(out: Path, count: int, seed: int, sources: Sources, side: int = 512) -> Iterator[Path]:
    """Write `count` pictures and MANIFEST.csv, which has a row for each package that a picture took something from.

    Yields each file when it is written. The manifest comes last, so a folder that has one is whole.

    Raises:
        RenderError: the folder has files already, or the count or the side is out of range.
    """
    if count < 1:
        raise RenderError(f"--count is {count}; it has to be 1 or more")
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise RenderError(f"--side is {side}; it has to be from {MIN_SIDE} to {MAX_SIDE}")
    if out.exists() and any(out.iterdir()):
        raise RenderError(f"{out} is not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = []
    for index in range(count):
        kind, scene = drawn(index, seed, sources, side)
        path = out / f"{index:05d}_{kind.replace(' ', '_')}.png"
        scene.render().pngsave(str(path), compression=6, keep="none")
        rows += [(path.name, kind, *row) for row in _used(scene)]
        yield path
    with (out / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def drawn(index: int, seed: int, sources: Sources, side: int = 512) -> tuple[str, Scene]:
    """Kind and scene of one picture."""
    kind = tuple(KINDS)[index % len(KINDS)]
    scene = Scene(side, sources, seed, index)
    KINDS[kind](scene)
    return kind, scene


def _used(scene: Scene) -> list[tuple[str, ...]]:
    """A row for each package; an empty one where the picture took nothing."""
    packages = dict.fromkeys(package for _, package in scene.used)
    rows: list[tuple[str, ...]] = []
    for package in packages:
        names = "; ".join(name for name, its in scene.used if its == package)
        if package == PHOTOGRAPH:
            rows.append((names, package, "", "as the photograph"))
        else:
            rows.append((names, package, scene.sources.versions.get(package, ""), licence(package)))
    return rows or [("", "", "", "")]
