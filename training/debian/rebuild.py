"""Rebuild the tiles of photographs in a folder, package by package."""

import csv
import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from training.debian.archive import Deb, download, find_versions
from training.debian.containers import read_pictures
from training.debian.deb import read_files
from training.debian.errors import BrokenPackage
from training.debian.manifest import INSIDE, Photograph
from training.debian.tiles import cut

Report = Callable[[str], None]
Rows = dict[str, tuple[str, ...]]
"""Rows of MANIFEST.csv by the name of the tile."""

COLUMNS = ("tile", "package", "version", "licence", "copyright")
LIST = "MANIFEST.csv"


@dataclass(frozen=True)
class Missing:
    """A photograph that no version in the archive has, and the reason."""

    photograph: Photograph
    reason: str


def rebuild(out: Path, archive: str, photographs: dict[str, list[Photograph]], report: Report) -> list[Missing]:
    """Write the tiles of these photographs and MANIFEST.csv; photographs whose tiles are all there are skipped.

    Returns:
        Photographs that were not found; the others are in the folder.

    Raises:
        DebianError: the archive cannot be used.
        OSError: the folder cannot be written, or the disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = _read_list(out)
    wanted = {package: _absent(out, rows, its) for package, its in photographs.items()}
    wanted = {package: its for package, its in wanted.items() if its}
    versions = find_versions(archive, wanted, report) if wanted else {}
    missing: list[Missing] = []
    for package, its in wanted.items():
        lost = _package(out, archive, its, versions.get(package, []), rows, report)
        report(f"{package}: {len(its) - len(lost)} of {len(its)} photographs")
        missing += lost
    return missing


def _absent(out: Path, rows: Rows, photographs: Iterable[Photograph]) -> list[Photograph]:
    """Photographs with a tile that is not in the folder or not in its list."""
    return [one for one in photographs if not all(tile in rows and (out / tile).is_file() for tile in one.tiles)]


def _package(
    out: Path, archive: str, photographs: list[Photograph], versions: list[Deb], rows: Rows, report: Report
) -> list[Missing]:
    """Try one version after the other until each photograph is found; returns those that are in none."""
    reasons = dict.fromkeys(photographs, "no version in the archive has this file")
    if not versions:
        reasons = dict.fromkeys(photographs, "the archive has no such package")
    for deb in versions:
        if not reasons:
            break
        try:
            with tempfile.TemporaryFile(dir=out) as file:
                download(archive, deb, file)
                for photograph, reason in _cut_all(out, file, list(reasons)):
                    if reason:
                        reasons[photograph] = reason
                        continue
                    reasons.pop(photograph, None)
                    facts = (deb.package, deb.version, photograph.licence, photograph.copyright)
                    rows |= {tile: (tile, *facts) for tile in photograph.tiles}
        except BrokenPackage as error:
            report(f"{deb.package} {deb.version} is left out: {error}")
        _write_list(out, rows)
    return [Missing(photograph, reason) for photograph, reason in reasons.items()]


def _cut_all(out: Path, file: BinaryIO, photographs: list[Photograph]) -> Iterator[tuple[Photograph, str]]:
    """Yield each photograph whose path is in a .deb, with the reason if its tiles could not be written."""
    known = defaultdict(list)
    for photograph in photographs:
        known[photograph.path].append(photograph)
    for path, content in _pictures(file, photographs):
        digest = hashlib.sha256(content).hexdigest()
        for photograph in known[path]:
            if photograph.sha256 != digest:
                yield photograph, "only another picture has its path"
                continue
            try:
                cut(photograph, content, out)
            except BrokenPackage as error:
                yield photograph, str(error)
            else:
                yield photograph, ""


def _pictures(file: BinaryIO, photographs: list[Photograph]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the pictures that these photographs name, those inside other files too."""
    inside = defaultdict(set)
    for photograph in photographs:
        inside[photograph.file].add(photograph.path.partition(INSIDE)[2])
    for path, content in read_files(file, inside):
        names = inside[path]
        if "" in names:
            yield path, content
        if names - {""}:
            yield from ((f"{path}{INSIDE}{name}", data) for name, data in read_pictures(path, content, names))


def _read_list(out: Path) -> Rows:
    """Rows that an earlier run wrote; none if there is no list."""
    if not (out / LIST).is_file():
        return {}
    with (out / LIST).open(encoding="utf-8", newline="") as file:
        return {row[0]: tuple(row) for row in csv.reader(file) if len(row) == len(COLUMNS) and row[0] != COLUMNS[0]}


def _write_list(out: Path, rows: Rows) -> None:
    unfinished = out / f".{LIST}.unfinished"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *(rows[tile] for tile in sorted(rows))])
    unfinished.replace(out / LIST)
