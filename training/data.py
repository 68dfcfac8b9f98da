"""Photographs of a folder: found, decoded, and paired with their reductions."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from training.degrade import crop_to_multiple, shrink_bicubic

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

READ_ERRORS = (Exception,)
"""Broken files make decoders raise anything: OSError, SyntaxError, IndexError, struct.error, DecompressionBombError."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

_PNG_EXIF = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")
"""Where a PNG keeps its orientation."""


class DataError(Exception):
    """A folder of pictures cannot be used; the text says why and what would help."""


@dataclass(frozen=True)
class Pair:
    """A photograph and its bicubic reduction: uint8 RGB (3, H, W) and (3, scale * H, scale * W)."""

    name: str
    low_res: Tensor
    high_res: Tensor


def picture_files(folder: Path) -> list[Path]:
    """Every picture below `folder`, in a fixed order.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one with photographs in it")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no picture; looked for {', '.join(sorted(SUFFIXES))} in it and below it")
    return files


def originals(folder: Path) -> Path:
    """Find where a folder keeps its full-size pictures: in `HR` if it is a benchmark's, else in itself.

    Without this, the reduced pictures of a benchmark would count as originals too.
    """
    high_res = folder / "HR"
    return high_res if high_res.is_dir() else folder


def read_picture(path: Path) -> Tensor:
    """Decode one file, upright, as uint8 RGB (3, H, W).

    Raises:
        READ_ERRORS: not a picture that Pillow can read, or a truncated one.
    """
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255 instead of scaling
            upright = Image.fromarray(((numpy.array(upright, dtype=numpy.uint32) + 128) // 257).astype(numpy.uint8))
        return torch.from_numpy(numpy.array(upright.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, upright, from its header alone.

    Raises:
        READ_ERRORS: the header is none of a picture.
    """
    with Image.open(path) as image:
        width, height = image.size
        if image.format == "TIFF" or (image.format == "PNG" and image.info.keys().isdisjoint(_PNG_EXIF)):
            return height, width  # Pillow turns a TIFF itself, and would decode a whole PNG to look for its EXIF
        sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return (width, height) if sideways else (height, width)


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
