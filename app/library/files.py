"""The weight files of a folder: their model names, and whether they have changed."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.text import encodable

INVALID_CHARS = re.compile(r"[^A-Za-z0-9_.-]+")
"""Characters not allowed in a URL path or header."""

MAX_NAME_CHARS = 100

HASH_CHARS = 8
"""Digits of the file name's hash that are appended to a model name which several files would share."""

COMPANIONS = {".param": ".bin"}
"""Suffixes of models that consist of two files (ncnn), and suffixes of the second file."""

RUN_STATE, RUN_CONFIG = "state.pt", "config.json"
"""The file from which training continues a run, which is no model, and one that is always next to it."""

DOCUMENTS = ("", ".csv", ".jpg", ".json", ".jsonl", ".md", ".png", ".rst", ".txt", ".webp", ".yaml", ".yml")
"""Suffixes of files that people and training keep next to weights: licences, model cards, samples, histories."""

GRAPH = "a graph without the network's structure; use the .pth or .safetensors that it was exported from"
ARCHIVE = "an archive; unpack it"
UNSERVED = {
    **dict.fromkeys((".onnx", ".xml", ".pb", ".tflite", ".engine", ".trt", ".plan", ".mlmodel"), GRAPH),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".xz", ".bz2", ".zst"), ARCHIVE),
    **dict.fromkeys((".part", ".tmp", ".crdownload", ".download", ".aria2", ".unfinished"), "an unfinished download"),
}
"""Reasons for not serving files with other well-known suffixes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A weight file as it was when the folder was last read."""

    path: Path
    size_bytes: int
    marks: tuple[int, ...]
    """Sizes, times and inodes of all its parts: they differ after a change."""


class Folder:
    """A folder of weight files.

    Args:
        path: the folder, or a single weight file in place of one.
        suffixes: suffixes of weight files, in lower case.
    """

    def __init__(self, path: Path, suffixes: Collection[str]) -> None:
        self.path = path
        self._suffixes = sorted(suffixes, key=len, reverse=True)
        self._reported: dict[str, dict[str, str]] = {}

    def files(self) -> dict[str, ModelFile]:
        """List its weight files by model name; log all other files, once.

        A model is named like its file, without the suffix and with invalid characters replaced by `-`. Where files
        differ only in their suffix, the `.safetensors` one gets that name and the others keep their suffix: `face.pth`.
        Files that would still share a name all get a hash of their own name behind it, so a new file never serves
        under the name of another one.

        Raises:
            OSError: the folder cannot be read.
        """
        suffixes = {path.name: self._suffix(path) for path in self._visible() if not self._is_companion(path)}
        folder = self.path.parent if self.path.is_file() else self.path
        looked = {name: _look(folder / name) for name, suffix in sorted(suffixes.items()) if suffix}
        files = {name: file for name, file in looked.items() if file is not None}
        names = _names({name: suffixes[name] for name in files})
        hashed = {encodable(file): name for file, name in names.items() if name.endswith(_hash(file))}
        self._report("not served", self.ignored())
        self._report("files that would share a name, and the names that they have instead", hashed)
        return {names[name]: file for name, file in files.items()}

    def ignored(self) -> dict[str, str]:
        """List files and folders that are not served, with the reason."""
        ignored = {path.name: reason for path in self._visible() if (reason := self._reason(path))}
        return {encodable(name): reason for name, reason in sorted(ignored.items())}

    def _visible(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        return [path for path in self.path.iterdir() if not path.name.startswith(".")]

    def _suffix(self, path: Path) -> str:
        return next((suffix for suffix in self._suffixes if path.name.lower().endswith(suffix)), "")

    def _is_companion(self, path: Path) -> bool:
        """Return True if a file belongs to others: the second one of a model, or the state of a run in its folder."""
        if path.name == RUN_STATE and path != self.path:
            return path.with_name(RUN_CONFIG).exists()
        return any(path.suffix.lower() == its and path.with_suffix(of).exists() for of, its in COMPANIONS.items())

    def _reason(self, path: Path) -> str | None:
        if path.is_dir():
            with suppress(OSError):
                number = sum(bool(self._suffix(one)) and not self._is_companion(one) for one in path.iterdir())
                if number or not self._suffix(path):
                    return f"a folder of {number} weight files; move them one level up" if number else None
        if self._suffix(path) and not path.is_file():
            return "not a file, or a broken link"
        if self._suffix(path) or self._is_companion(path) or path.suffix.lower() in DOCUMENTS:
            return None
        return UNSERVED.get(path.suffix.lower(), "its suffix is not one of " + " ".join(sorted(self._suffixes)))

    def _report(self, what: str, notes: dict[str, str]) -> None:
        known, self._reported[what] = self._reported.get(what, {}), notes
        if new := {name: note for name, note in notes.items() if known.get(name) != note}:
            log.warning("%s: %s", what, "; ".join(f"{name} ({note})" for name, note in new.items()))


def _names(suffixes: Mapping[str, str]) -> dict[str, str]:
    """Name the model of each file; names depend on the set of files only, so replicas and restarts agree.

    Args:
        suffixes: names of files, and their suffixes.
    """
    stems = {file: file[: len(file) - len(suffix)] for file, suffix in suffixes.items()}
    sharing = Counter(stems.values())
    names = {
        file: _name(stem if sharing[stem] == 1 or suffixes[file] == ".safetensors" else file)
        for file, stem in stems.items()
    }
    holders = Counter(names.values())
    return {
        file: name if holders[name] == 1 else f"{name[: MAX_NAME_CHARS - HASH_CHARS - 1]}-{_hash(file)}"
        for file, name in names.items()
    }


def _name(text: str) -> str:
    return INVALID_CHARS.sub("-", text).strip("-.")[:MAX_NAME_CHARS] or "model"


def _hash(file: str) -> str:
    return hashlib.sha256(os.fsencode(file)).hexdigest()[:HASH_CHARS]


def _look(path: Path) -> ModelFile | None:
    parts = [path]
    if (companion := COMPANIONS.get(path.suffix.lower())) is not None:
        parts.append(path.with_suffix(companion))
    if not path.is_file():
        return None
    try:
        stats = [part.stat() for part in parts if part.exists()]
    except OSError:  # removed in the meantime
        return None
    marks = tuple(mark for stat in stats for mark in (stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return ModelFile(path=path, size_bytes=sum(stat.st_size for stat in stats), marks=marks)
