"""Photographs of a folder: found, decoded, and paired with their reductions."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from model.pictures import reading
from model.pictures.limits import Limits
from model.pictures.reading import SUFFIXES
from model.pictures.samples import turned
from training.degrade import crop_to_multiple, shrink_bicubic

READ_ERRORS = (Exception,)
"""Errors of a picture that cannot be read: `PictureError`, OSError, or whatever else a decoder trips over."""

LIMITS = Limits(
    max_picture_px=2**28,
    max_width_px=2**28,
    max_frames=10_000,
    max_metadata_bytes=2**28,
    max_expansion=2**28,
)
"""The files are one's own: only what would exhaust the memory is refused."""


class DataError(Exception):
    """A folder of pictures cannot be used; the text says why and what would help."""


@dataclass(frozen=True)
class Pair:
    """A photograph and its bicubic reduction: uint8 RGB (3, H, W) and (3, scale * H, scale * W)."""

    name: str
    low_res: Tensor
    high_res: Tensor


def picture_files(folder: Path) -> list[Path]:
    """Every picture below `folder`, in a fixed order. Linked folders are followed; each folder counts once.

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


def originals(folder: Path) -> Path:
    """Find where a folder keeps its full-size pictures: in `HR` if it is a benchmark's, else in itself.

    Without this, the reduced pictures of a benchmark would count as originals too.
    """
    high_res = folder / "HR"
    return high_res if high_res.is_dir() else folder


def _files_below(folder: Path) -> Iterator[Path]:
    """Files with the suffix of a picture. A folder is found by its own name where there is one, else by a link."""
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
    """Height and width of a picture, upright, from its header alone.

    Raises:
        READ_ERRORS: it is not the header of a picture.
    """
    return reading.read_size(path, LIMITS)


def read_pairs(
    folder: Path, scale: int, *, least_px: int = 1, only: Collection[Path] | None = None
) -> Iterator[Pair | str]:
    """Every photograph of a folder as a pair; in its place a line that says why, where one cannot be used.

    Args:
        least_px: shortest side that a low-res picture must have.
        only: read these alone.
    """
    for path in picture_files(folder):
        if only is not None and path not in only:
            continue
        try:
            high_res = crop_to_multiple(read_picture(path), scale)
        except READ_ERRORS as error:
            yield unreadable(path, error)
            continue
        height, width = high_res.shape[-2:]
        if problem := too_small(path, height, width, scale * least_px):
            yield problem
            continue
        yield Pair(path.stem, shrink_bicubic(high_res, scale), high_res)


def unreadable(path: Path, error: Exception) -> str:
    """The line that says why a picture is left out."""
    return f"{path}: cannot be read ({error})"


def too_small(path: Path, height: int, width: int, least_px: int) -> str | None:
    """The line that says why a picture is left out; None where it is large enough."""
    if min(height, width) >= least_px:
        return None
    return f"{path}: {width} x {height} px is less than {least_px} px a side"
