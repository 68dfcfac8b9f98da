"""Render a folder of pictures with a list of what each one holds and its licence."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

from training.rendered.kinds import KINDS
from training.rendered.scene import Scene
from training.rendered.sources import Sources, provenance

COLUMNS = ("file", "kind", "used", "package", "version", "licence")


def render(
    out: Path, count: int, seed: int, sources: Sources, side: int = 512, progress: Callable[[range], Iterable[int]] = iter
) -> None:
    """Write `count` pictures and MANIFEST.csv, which has a row for each package that a picture took something from."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as file:
        manifest = csv.writer(file)
        manifest.writerow(COLUMNS)
        for index in progress(range(count)):
            kind, scene = drawn(index, seed, sources, side)
            name = f"{index:05d}_{kind.replace(' ', '_')}.png"
            scene.render().pngsave(str(out / name), compression=6, keep="none")
            manifest.writerows((name, kind, *row) for row in _used(scene))


def drawn(index: int, seed: int, sources: Sources, side: int = 512) -> tuple[str, Scene]:
    """Kind and scene of one picture."""
    kind = tuple(KINDS)[index % len(KINDS)]
    scene = Scene(side, sources, seed, index)
    KINDS[kind](scene)
    return kind, scene


def _used(scene: Scene) -> list[tuple[str, ...]]:
    """A row for each package; a picture without any is our own."""
    packages = dict.fromkeys(package for _, package in scene.used)
    rows: list[tuple[str, ...]] = []
    for package in packages:
        names = "; ".join(name for name, its in scene.used if its == package)
        rows.append((names, *provenance(scene.sources, package)))
    return rows or [("", "", "", "Apache-2.0")]
