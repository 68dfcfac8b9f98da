"""The list of photographs in Debian packages, and of the tiles to cut out of them."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.debian.errors import DebianError

MANIFEST = Path(__file__).with_name("manifest.csv")
INSIDE = "!/"
"""Separates the path of a container from the name of a picture inside it."""


@dataclass(frozen=True)
class Photograph:
    """A picture in a package, and the tiles to cut out of it."""

    package: str
    path: str
    """Path in the package; `CONTAINER!/NAME` for a picture inside another file."""
    sha256: str
    """Hash of the picture's file."""
    scale: float
    """Reduction before tiles are cut; 1 for none."""
    crops: tuple[tuple[int, int], ...]
    """Left and upper edge of each tile, in pixels after scaling."""
    licence: str
    copyright: str
    name: str
    """Names of its tiles without their number."""

    @property
    def file(self) -> str:
        """Path of the file in the package that is the picture or holds it."""
        return self.path.partition(INSIDE)[0]

    @property
    def tiles(self) -> tuple[str, ...]:
        """File names of its tiles."""
        return tuple(f"{self.name}_{index}.png" for index in range(len(self.crops)))


def read_manifest(path: Path = MANIFEST) -> dict[str, list[Photograph]]:
    """Return the photographs by package.

    Raises:
        DebianError: the file is not such a list.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [f"{row['package']}_{_stem(row['path'])}" for row in rows]
        used = Counter(name.lower() for name in names)
        photographs = defaultdict(list)
        for row, name in zip(rows, names, strict=True):
            unique = name if used[name.lower()] == 1 else f"{name}_{row['sha256'][:8]}"
            photographs[row["package"]].append(_photograph(row, unique))
    except (KeyError, ValueError, TypeError) as error:
        raise DebianError(
            f"{path} is not a list of photographs ({error!r}); take the file of the repository"
        ) from error
    return dict(photographs)


def selected(photographs: dict[str, list[Photograph]], packages: Sequence[str]) -> dict[str, list[Photograph]]:
    """Return the photographs of these packages only; of all if none is named.

    Raises:
        DebianError: a package has no photographs.
    """
    for package in packages:
        if package not in photographs:
            raise DebianError(
                f"--packages names {package!r}, which has no photographs here; take one of {', '.join(photographs)}"
            )
    return {package: photographs[package] for package in dict.fromkeys(packages)} if packages else photographs


def _photograph(row: dict[str, str], name: str) -> Photograph:
    corners = [crop.split() for crop in row["crops"].split(";")]
    return Photograph(
        package=row["package"],
        path=row["path"],
        sha256=row["sha256"],
        scale=float(row["scale"]),
        crops=tuple((int(left), int(top)) for left, top in corners),
        licence=row["licence"],
        copyright=row["copyright"],
        name=name,
    )


def _stem(path: str) -> str:
    """Letters and digits of the last part of a path."""
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")[:40]
