"""The weight files of a folder: their model names, and whether they have changed."""

import logging
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INVALID_CHARS = re.compile(r"[^A-Za-z0-9_.-]+")
"""Characters not allowed in a URL path or header."""

MAX_NAME_CHARS = 100

COMPANIONS = {".param": ".bin"}
"""Suffixes of models that consist of two files (ncnn), and those of the second file."""


DOCUMENTS = ("", ".csv", ".jpg", ".json", ".md", ".png", ".rst", ".txt", ".webp", ".yaml", ".yml")
"""Suffixes of files that people keep next to weights: licences, model cards, samples."""

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
        suffixes: suffixes of weight files, in lower case.
    """

    def __init__(self, path: Path, suffixes: Collection[str]) -> None:
        self.path = path
        self._suffixes = sorted(suffixes, key=len, reverse=True)
        self._reported: dict[str, str] = {}

    def files(self) -> dict[str, ModelFile]:
        """List its weight files by model name; log all other files, once.

        A model is named like its file, without the suffix and with invalid characters replaced by `-`. Where two files
        differ only in their suffix, the `.safetensors` one gets that name and the other keeps its suffix: `face.pth`.

        Raises:
            OSError: the folder cannot be read.
        """
        found = [(path, self._suffix(path)) for path in self._visible() if not self._is_companion(path)]
        files: dict[str, ModelFile] = {}
        for path, suffix in sorted(found, key=lambda one: (one[1] != ".safetensors", one[0].name)):
            stem = path.name[: len(path.name) - len(suffix)]
            name = _name(stem) if _name(stem) not in files else _name(path.name)
            file = _look(path) if suffix else None
            if file is not None and name not in files:
                files[name] = file
        self._log_ignored()
        return files

    def ignored(self) -> dict[str, str]:
        """List files and folders that are not served, with the reason."""
        ignored = {path.name: reason for path in self._visible() if (reason := self._reason(path))}
        return {printable(name): reason for name, reason in sorted(ignored.items())}

    def _visible(self) -> list[Path]:
        return [path for path in self.path.iterdir() if not path.name.startswith(".")]

    def _suffix(self, path: Path) -> str:
        return next((suffix for suffix in self._suffixes if path.name.lower().endswith(suffix)), "")

    def _is_companion(self, path: Path) -> bool:
        return any(path.suffix.lower() == its and path.with_suffix(of).exists() for of, its in COMPANIONS.items())

    def _reason(self, path: Path) -> str | None:
        if path.is_dir():
            with suppress(OSError):
                number = sum(bool(self._suffix(inner)) for inner in path.iterdir())
                if number or not self._suffix(path):
                    return f"a folder of {number} weight files; move them one level up" if number else None
        if self._suffix(path) and not path.is_file():
            return "not a file, or a broken link"
        if self._suffix(path) or self._is_companion(path) or path.suffix.lower() in DOCUMENTS:
            return None
        return UNSERVED.get(path.suffix.lower(), "its suffix is not one of " + " ".join(sorted(self._suffixes)))

    def _log_ignored(self) -> None:
        ignored = self.ignored()
        if new := {name: reason for name, reason in ignored.items() if self._reported.get(name) != reason}:
            log.warning("not served: %s", "; ".join(f"{name} ({reason})" for name, reason in new.items()))
        self._reported = ignored


def printable(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8, so that the text can be written anywhere."""
    return text.encode("utf-8", "backslashreplace").decode()


def _name(text: str) -> str:
    return INVALID_CHARS.sub("-", text).strip("-.")[:MAX_NAME_CHARS] or "model"


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
