"""Find pictures in files and folders, name their answers, and write each answer whole."""

import asyncio
import os
import uuid
from collections import defaultdict
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from app.pictures.decode import SUFFIXES
from app.pictures.layout import AnswerFormat

PREVIEWS = "@eaDir"
"""Folder in which a Synology NAS keeps previews of the pictures around it."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A picture, and where its answer goes."""

    source: Path
    target: Path
    """Without the suffix, which depends on the format of the answer."""

    def target_as(self, form: AnswerFormat) -> Path:
        """Return the file of an answer in a format."""
        return self.target.with_name(self.target.name + form.suffix)

    def with_suffix(self) -> "Task":
        """Return the task with the suffix of the picture in the name of its answer: `photo.jpg.png`."""
        return replace(self, target=self.target.with_name(self.source.name))

    def existing(self, formats: Iterable[AnswerFormat]) -> Path | None:
        """Return the answer if it is there already, in any of these formats."""
        return next((path for form in formats if (path := self.target_as(form)).is_file()), None)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files that a command line names."""

    tasks: Sequence[Task]
    others: Sequence[Path]
    """Files of its folders that do not have the suffix of a picture."""


def find_pictures(inputs: Iterable[Path], out: Path) -> Found:
    """Find the pictures of files and folders; those of a folder keep their place in it below `out`.

    Raises:
        OSError: a folder cannot be read.
    """
    out = out.resolve()
    tasks: list[Task] = []
    others: list[Path] = []
    for path in inputs:
        if not path.is_dir():
            stem = path.name if path.stem in (".", "..") else path.stem  # such as `..png`
            tasks.append(Task(source=path, target=out / stem))
            continue
        for source in _files_below(path, out):
            if source.suffix.lower() in SUFFIXES:
                tasks.append(Task(source=source, target=out / source.relative_to(path).with_suffix("")))
            else:
                others.append(source)
    return Found(tasks=_apart(list(dict.fromkeys(tasks))), others=list(dict.fromkeys(others)))


def _apart(tasks: Sequence[Task]) -> Sequence[Task]:
    """Keep the suffixes of pictures whose answers would have one name: `photo.jpg` and `photo.tif`.

    Two pictures of one name, from two folders, have one suffix as well, which would not help.
    Names depend on the list of pictures only, so the same command finds the answers of its last run.
    """
    names = defaultdict[Path, set[str]](set)
    for task in tasks:
        names[task.target].add(task.source.name)
    apart = [task.with_suffix() if len(names[task.target]) > 1 else task for task in tasks]
    return tasks if apart == tasks else _apart(apart)


def _files_below(folder: Path, out: Path) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it, except for hidden ones and for `out`."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not _is_hidden(name) and (Path(parent) / name).resolve() != out)
        yield from (Path(parent) / name for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == PREVIEWS


def next_input(tasks: Iterable[Task], inputs: Iterable[Path], out: Path) -> tuple[Task, Path] | None:
    """Return a picture whose answer would be written into an input folder, where the next run would upscale it.

    Returns the folder as well. `out` itself may be inside an input folder, since `find_pictures` skips it.
    """
    out = out.resolve()
    folders = [path for path in inputs if path.is_dir() and path.resolve() not in out.parents]
    inside = ((task, folder) for task in tasks for folder in folders if task.target.is_relative_to(folder.resolve()))
    return next(inside, None)


async def write_whole(path: Path, pieces: AsyncIterable[bytes]) -> None:
    """Write a file that appears under its name only once it is complete.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part")  # short: a name has at most 255 bytes
    file = await asyncio.to_thread(part.open, "wb")
    try:
        with file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _raise(error: OSError) -> None:
    raise error
