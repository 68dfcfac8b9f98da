"""Find and decode the pictures of a folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy
import torch
from torch import Tensor

from model.pictures import reading
from model.pictures.limits import Limits
from model.pictures.reading import SUFFIXES
from model.pictures.samples import turned
from training.errors import Mistake

READ_ERRORS = (Exception,)
"""Errors of a picture that cannot be read: `PictureError`, OSError, or any error of a decoder."""

LIMITS = Limits(
    max_picture_px=2**28,
    max_width_px=2**28,
    max_frames=10_000,
    max_metadata_bytes=2**28,
    max_expansion=2**28,
)
"""Limits for the user's own files: only what would exhaust the memory is refused."""


class DataError(Mistake):
    """A folder of pictures cannot be used; the text says why and what would help."""


@dataclass(frozen=True)
class Pair:
    """An original and its low-res picture: uint8 RGB (3, scale * H, scale * W) and (3, H, W)."""

    name: str
    low_res: Tensor
    high_res: Tensor

    @property
    def scale(self) -> int:
        """Sides of the original over those of the low-res picture."""
        return self.high_res.shape[-1] // self.low_res.shape[-1]


class Pairs(Protocol):
    """Pairs that may be read or made when they are taken; that raises `DataError` for those that cannot be read."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Pair: ...


def folder_name(folder: Path) -> str:
    """Return the name of a folder as given; for `.` and `..`, its real name."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def picture_files(folder: Path) -> list[Path]:
    """List every picture below `folder`, in a fixed order. Linked folders are followed; each folder counts once.

    Raises:
        DataError: there is no such folder, it cannot be read, or no picture is in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one with photographs in it")
    try:
        files = sorted(_files_below(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error})") from error
    if not files:
        raise DataError(f"{folder} holds no picture; looked for {', '.join(sorted(SUFFIXES))} in it and below it")
    return files


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield files with the suffix of a picture; each folder once, by its real path if that is below, else by a link."""
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        one = folders.pop() if folders else links.pop(0)
        status = one.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(os.scandir(one), key=lambda entry: entry.name):
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(one / entry.name)
            elif Path(entry.name).suffix.lower() in SUFFIXES and (entry.is_file() or entry.is_symlink()):
                yield one / entry.name


def read_picture(path: Path) -> Tensor:
    """Decode one file as the service does, upright, as uint8 RGB (3, H, W). Transparency is left out.

    Raises:
        READ_ERRORS: not a picture that can be read, or a damaged one.
    """
    picture = reading.read(path.read_bytes(), LIMITS)
    pixels = turned(picture.samples.colour, picture.orientation)
    if pixels.dtype == numpy.uint16:
        pixels = ((pixels.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8)
    return torch.from_numpy(numpy.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_size(path: Path) -> tuple[int, int]:
    """Read height and width of a picture, upright, from its header alone.

    Raises:
        READ_ERRORS: it is not the header of a picture.
    """
    return reading.read_size(path, LIMITS)


def unreadable(path: Path, error: Exception) -> str:
    """Write the line that says why a picture is left out."""
    return f"{path}: cannot be read ({error})"


def too_small(path: Path, height: int, width: int, min_px: int) -> str | None:
    """Write the line that says why a picture is left out; None if it is large enough."""
    if min(height, width) >= min_px:
        return None
    return f"{path}: {width} x {height} px is less than {min_px} px a side"
