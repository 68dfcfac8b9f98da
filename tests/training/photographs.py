"""Photographs made for tests: as files, and as pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tests.model.examples import textured
from training.crop_sources import Canvas, DecodedPhotographs
from training.crops import CropPlan
from training.data import Pair
from training.degrade import shrink_bicubic


def save(picture: Tensor, path: Path, **options: Any) -> Path:
    """Write uint8 RGB (3, H, W) in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path, **options)
    return path


def lying(orientation: int) -> Image.Exif:
    """EXIF with an orientation: 1 is upright, 6 turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def made_pair(seed: int, *, height: int = 48, width: int = 64, scale: int = 2) -> Pair:
    """A textured photograph and its reduction."""
    high_res = textured(height, width, seed)
    return Pair(f"made {seed}", shrink_bicubic(high_res, scale), high_res)


def decoded(pairs: Sequence[Pair], plan: CropPlan, scale: int) -> DecodedPhotographs:
    """Crops of pairs that are held in memory."""
    sides = [[pair.high_res for pair in pairs], [pair.low_res for pair in pairs]]
    high_res, low_res = (Canvas(sum(one[0].numel() for one in side), torch.device("cpu")) for side in sides)
    for canvas, side in zip((high_res, low_res), sides, strict=True):
        for picture in side:
            canvas.add(picture)
    return DecodedPhotographs(high_res, low_res, plan, scale=scale)


def map_pair(height: int, width: int, scale: int = 4, mark: int = 0) -> Pair:
    """A pair with pixels that encode their row, their column and their picture."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    low_res = torch.stack((rows, columns, torch.full_like(rows, mark))).byte()
    return Pair("map", low_res, low_res.repeat_interleave(scale, 1).repeat_interleave(scale, 2))
