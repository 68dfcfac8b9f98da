"""Photographs of a folder as training pairs: aligned crops of low_res and high_res pictures.

The whole set lies decoded in memory as uint8, and the crops of step k are a function of (seed, k) alone: a resumed
run sees exactly what an uninterrupted one would have seen, with no sampler state to save.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from training.degrade import crop_to_multiple, shrink_bicubic

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


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


def read_picture(path: Path) -> Tensor:
    """Decode one file, upright, as uint8 RGB (3, H, W).

    Raises:
        OSError: not a picture that Pillow can read, or a truncated one.
    """
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return torch.from_numpy(numpy.array(upright)).permute(2, 0, 1).contiguous()


def read_pairs(folder: Path, scale: int, *, least_px: int = 1) -> Iterator[Pair | str]:
    """Every photograph of a folder as a pair; in its place a line that says why, where one cannot be used.

    Args:
        least_px: shortest side that a low-res picture must have.
    """
    for path in picture_files(folder):
        try:
            high_res = crop_to_multiple(read_picture(path), scale)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            yield f"{path}: cannot be read ({error})"
            continue
        if min(high_res.shape[-2:]) < least_px * scale:
            yield f"{path}: {high_res.shape[2]} x {high_res.shape[1]} px is less than {least_px * scale} px a side"
            continue
        yield Pair(path.stem, shrink_bicubic(high_res, scale), high_res)


class CropSampler:
    """Random aligned crops, each flipped and transposed at random."""

    def __init__(self, pairs: list[Pair], *, scale: int, crop_px: int, batch: int, seed: int) -> None:
        if not pairs:
            raise DataError("no photograph of the folder can be used for training; see the lines above")
        self._pairs = pairs
        self._scale = scale
        self._crop_px = crop_px
        self._batch = batch
        self._seed = seed
        # A photograph is drawn as often as it has places for a crop.
        places = [(p.low_res.shape[1] - crop_px + 1) * (p.low_res.shape[2] - crop_px + 1) for p in pairs]
        self._shares = numpy.array(places) / sum(places)

    def batch_of_step(self, step: int) -> tuple[Tensor, Tensor]:
        """The crops of one step: uint8 RGB (N, 3, crop, crop) and (N, 3, scale * crop, scale * crop)."""
        chance = numpy.random.default_rng((self._seed, step))  # torch's generators see only 32 bits of their seed
        chosen = chance.choice(len(self._pairs), self._batch, p=self._shares)
        crops = [self._crop(self._pairs[index], chance) for index in chosen]
        low_res, high_res = zip(*crops, strict=True)
        return torch.stack(low_res), torch.stack(high_res)

    def _crop(self, pair: Pair, chance: numpy.random.Generator) -> tuple[Tensor, Tensor]:
        height, width = pair.low_res.shape[1:]
        top = int(chance.integers(height - self._crop_px + 1))
        left = int(chance.integers(width - self._crop_px + 1))
        turn = int(chance.integers(8))

        def cut(picture: Tensor, factor: int) -> Tensor:
            rows = slice(top * factor, (top + self._crop_px) * factor)
            columns = slice(left * factor, (left + self._crop_px) * factor)
            return _turned(picture[:, rows, columns], turn)

        return cut(pair.low_res, 1), cut(pair.high_res, self._scale)


def _turned(picture: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of the square, `turn` in 0..7."""
    if turn & 1:
        picture = picture.flip(-1)
    if turn & 2:
        picture = picture.flip(-2)
    return picture.transpose(-1, -2) if turn & 4 else picture
