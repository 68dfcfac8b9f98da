"""The weight files of a folder: their names as models, and whether one has changed."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

UNSPEAKABLE = re.compile(r"[^A-Za-z0-9_.-]+")
"""What cannot stand in an address or a header."""

LONGEST_NAME = 100

COMPANIONS = {".param": ".bin"}
"""Files that hold one model together with another: ncnn's."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A weight file as it was when somebody looked."""

    path: Path
    size_bytes: int
    marks: tuple[int, ...]
    """Sizes, times and places on the disk of all its parts: they differ once it has changed."""


def model_files(folder: Path, suffixes: Collection[str]) -> dict[str, ModelFile]:
    """The weight files of a folder by the names of their models.

    A model is called as its file without the suffix; what cannot stand in an address becomes a `-`. Where two files
    differ in their suffix only, the `.safetensors` one has that name, and the other keeps its suffix: `face.pth`.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    files: dict[str, ModelFile] = {}
    for path in sorted(found, key=lambda path: (path.suffix.lower() != ".safetensors", path.name)):
        name = _name(path.stem) if _name(path.stem) not in files else _name(path.name)
        file = _look(path)
        if file is not None and name not in files:
            files[name] = file
    return files


def _name(text: str) -> str:
    return UNSPEAKABLE.sub("-", text).strip("-.")[:LONGEST_NAME] or "model"


def _look(path: Path) -> ModelFile | None:
    parts = [path]
    if (companion := COMPANIONS.get(path.suffix.lower())) is not None:
        parts.append(path.with_suffix(companion))
    if not path.is_file():
        return None
    try:
        stats = [part.stat() for part in parts if part.exists()]
    except OSError:  # removed meanwhile
        return None
    marks = tuple(mark for stat in stats for mark in (stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return ModelFile(path=path, size_bytes=sum(stat.st_size for stat in stats), marks=marks)
