"""Decoded pictures in one memory-mapped file, so that a crop costs a copy and not the decoding of a whole photograph.

The folder of a cache holds `pixels.bin`, the RGB bytes of one picture after the other, and `index.jsonl`, a line for
each of them: its path, its size and time when it was decoded, and its place. A line is written after its pixels are on
the disk, so a build that was killed continues where it stopped. A file that has changed since is decoded again.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.data import READ_ERRORS, DataError, read_picture, read_size

NEVER_NS = -1
"""Modification time in the index for a file that will be retried."""

SPARE_BYTES = 2**30
"""Disk space that a cache leaves free."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A line of the index."""

    path: str
    file_bytes: int
    mtime_ns: int
    height: int = 0
    width: int = 0
    offset: int = 0
    problem: str = ""
    """Why the file could not be decoded; it is retried only after it changes."""

    @property
    def end(self) -> int:
        """Offset of the first byte after the pixels."""
        return self.offset + 3 * self.height * self.width


class PictureCache:
    """Decoded pictures in a folder. Several runs and processes may share it.

    Args:
        folder: made if it is missing; it may be deleted at any time when no run uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, _Entry] = {}

    @property
    def folder(self) -> Path:
        """Where the cache is kept."""
        return self._folder

    def missing_bytes(self, files: Sequence[Path]) -> int:
        """Return the bytes that `fill` would write, from the headers of the files that are not in the cache."""
        self._entries = self._read_index()
        return sum(entry.end for entry in map(_sized, self._stale(files)))

    def free_bytes(self) -> int:
        """Return the disk space that the cache may use."""
        there = next(folder for folder in (self._folder, *self._folder.absolute().parents) if folder.is_dir())
        return max(0, shutil.disk_usage(there).free - SPARE_BYTES)

    def fill(self, files: Sequence[Path], *, threads: int) -> None:
        """Decode the files that are new or have changed. A broken one is noted, and `read` raises.

        Processes that share the run may all call it: one fills, the others wait.

        Raises:
            DataError: the disk has no room for them.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / "lock"):
            needed, free = self.missing_bytes(files), self.free_bytes()
            if needed > free:
                raise DataError(
                    f"{self._folder} needs {needed / 1e9:.1f} GB for decoded pictures and the disk has "
                    f"{free / 1e9:.1f} GB; name a folder on another disk by --cache"
                )
            if stale := self._stale(files):
                self._decode(stale, threads)
        self.__dict__.pop("_pixels", None)  # the file has grown

    def read(self, path: Path) -> Tensor:
        """Map a picture into memory: uint8 RGB (3, H, W), a view that is read from the disk where it is used.

        Raises:
            ValueError: the file could not be decoded, or is not in the cache.
        """
        entry = self._entries.get(_name(path))
        if entry is None or entry.problem:
            raise ValueError(entry.problem if entry else f"{path} is not in the cache {self._folder}")
        pixels = self._pixels[entry.offset : entry.end]
        return torch.from_numpy(pixels).view(entry.height, entry.width, 3).permute(2, 0, 1)

    def problem(self, path: Path) -> str:
        """Say why a file could not be decoded; empty if it was."""
        entry = self._entries.get(_name(path))
        return entry.problem if entry else ""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped memory out, which would be copied to each worker."""
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}

    @cached_property
    def _pixels(self) -> NDArray[numpy.uint8]:
        # Copy-on-write, because torch warns of memory that cannot be written to.
        return numpy.memmap(self._folder / "pixels.bin", dtype=numpy.uint8, mode="c")

    def _read_index(self) -> dict[str, _Entry]:
        """Read the entries whose pixels are there; a later line for a path replaces an earlier one."""
        pixels = self._folder / "pixels.bin"
        size = pixels.stat().st_size if pixels.exists() else 0
        return {entry.path: entry for entry in _lines(self._folder / "index.jsonl") if entry.end <= size}

    def _stale(self, files: Iterable[Path]) -> list[_Entry]:
        """List the files whose size or time is not the one in the index."""
        now = [_stat(path) for path in dict.fromkeys(files)]
        known = self._entries
        return [
            entry
            for entry in now
            if (old := known.get(entry.path)) is None
            or (old.file_bytes, old.mtime_ns) != (entry.file_bytes, entry.mtime_ns)
        ]

    def _decode(self, stale: Sequence[_Entry], threads: int) -> None:
        index = self._folder / "index.jsonl"
        _close_last_line(index)
        end = max((entry.end for entry in self._entries.values()), default=0)
        pixels = os.open(self._folder / "pixels.bin", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with (
                index.open("a", encoding="ascii") as lines,
                ThreadPoolExecutor(threads) as pool,
                tqdm(total=len(stale), desc="decoding once", unit="picture") as bar,
            ):
                running: set[Future[_Entry]] = set()
                for entry in stale:
                    sized = _sized(entry)
                    placed, end = replace(sized, offset=end), end + sized.end
                    running.add(pool.submit(_decoded, placed, pixels))
                    while len(running) >= 2 * threads or (entry is stale[-1] and running):
                        done, running = wait(running, return_when=FIRST_COMPLETED)
                        for one in done:
                            self._entries[one.result().path] = one.result()
                            lines.write(json.dumps(asdict(one.result())) + "\n")
                            bar.update()
                        lines.flush()
        finally:
            os.close(pixels)


def _decoded(entry: _Entry, pixels: int) -> _Entry:
    """Decode one file into its place; returns its line of the index."""
    if entry.problem:
        return entry
    try:
        picture = read_picture(Path(entry.path)).permute(1, 2, 0).contiguous()
        if picture.shape[:2] != (entry.height, entry.width):
            raise ValueError(
                f"it is {picture.shape[1]} x {picture.shape[0]} px, and its header said {entry.width} x {entry.height}"
            )
    except READ_ERRORS as error:
        return _unread(entry, error)
    content, written = picture.numpy().tobytes(), 0
    while written < len(content):
        written += os.pwrite(pixels, memoryview(content)[written:], entry.offset + written)
    os.fdatasync(pixels)
    return entry


def _sized(entry: _Entry) -> _Entry:
    """Add the size from the header."""
    try:
        height, width = read_size(Path(entry.path))
    except READ_ERRORS as error:
        return _unread(entry, error)
    return replace(entry, height=height, width=width)


def _unread(entry: _Entry, error: Exception) -> _Entry:
    """Note why a file was not decoded; after an error of the system, the next `fill` retries it."""
    may_pass = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
    problem = str(error) or type(error).__name__
    mtime_ns = NEVER_NS if may_pass else entry.mtime_ns
    return replace(entry, height=0, width=0, offset=0, problem=problem, mtime_ns=mtime_ns)


def _stat(path: Path) -> _Entry:
    try:
        status = path.stat()
    except OSError as error:
        return _Entry(path=_name(path), file_bytes=-1, mtime_ns=0, problem=str(error))
    return _Entry(path=_name(path), file_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def _name(path: Path) -> str:
    return str(path.absolute())


def _lines(index: Path) -> Iterator[_Entry]:
    """Read an index; a line that was cut short is skipped."""
    if not index.exists():
        return
    with index.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            try:
                yield _Entry(**json.loads(line))
            except (ValueError, TypeError):
                continue


def _close_last_line(index: Path) -> None:
    """End a line that a killed build left unfinished, so that the next one begins on its own."""
    if index.exists() and index.stat().st_size:
        with index.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that every process on this machine sees; the kernel frees it when the process ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
