"""python -m benchmarks.side_by_side CROP ... --weights FILE ... --out PNG: pieces of real pictures, enlarged.

A CROP is PHOTO:LEFT,TOP,WIDTH,HEIGHT in pixels of the photo, which is upscaled as it is and not reduced first. Each is
a row: bicubic, then every generator in the order of the files.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

from app.settings import SHIPPED_MODELS
from model.reliable import load
from model.transfer import Pixels
from training.data import read_picture

GAP_PX = 4
SURROUNDINGS_PX = 32
"""Pixels around a crop that a generator sees too, so that it draws the piece as in the whole picture."""


@dataclass(frozen=True)
class Crop:
    """A piece of a photo, in its pixels."""

    photo: Path
    left: int
    top: int
    width: int
    height: int


def parse_crop(text: str) -> Crop:
    """Read PHOTO:LEFT,TOP,WIDTH,HEIGHT.

    Raises:
        ArgumentTypeError: `text` has another form, the photo cannot be read, or the crop reaches over it.
    """
    photo, _, numbers = text.rpartition(":")
    try:
        left, top, width, height = map(int, numbers.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not PHOTO:LEFT,TOP,WIDTH,HEIGHT") from error
    crop = Crop(Path(photo), left, top, width, height)
    try:
        with Image.open(crop.photo) as image:
            whole = image.size
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{photo} cannot be read ({error})") from error
    if min(left, top) < 0 or min(width, height) < 1 or left + width > whole[0] or top + height > whole[1]:
        raise argparse.ArgumentTypeError(f"{numbers} is not inside {photo}, which has {whole[0]} x {whole[1]} px")
    return crop


def row(crop: Crop, weights: list[Path]) -> Pixels:
    """Enlarge a crop by bicubic and by each generator: uint8 RGB (scale * height, W, 3), next to each other."""
    photo = read_picture(crop.photo).permute(1, 2, 0).numpy()
    before_x, before_y = min(crop.left, SURROUNDINGS_PX), min(crop.top, SURROUNDINGS_PX)
    piece = photo[
        crop.top - before_y : crop.top + crop.height + SURROUNDINGS_PX,
        crop.left - before_x : crop.left + crop.width + SURROUNDINGS_PX,
    ].copy()
    generators = [load(path)[0] for path in weights]
    scale = generators[0].scale
    size = (piece.shape[1] * scale, piece.shape[0] * scale)
    enlarged = [numpy.asarray(Image.fromarray(piece).resize(size, Image.Resampling.BICUBIC))]
    enlarged += [generator.upscale(piece[None])[0] for generator in generators]
    rows = slice(before_y * scale, (before_y + crop.height) * scale)
    columns = slice(before_x * scale, (before_x + crop.width) * scale)
    return joined([picture[rows, columns] for picture in enlarged], axis=1)


def joined(pictures: list[Pixels], *, axis: int) -> Pixels:
    """Put pictures next to each other (axis 1) or below each other (axis 0), with a white gap."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP_PX
    gap = numpy.full(shape, 255, numpy.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return numpy.concatenate(parts[1:], axis=axis)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    parser.add_argument("crops", nargs="+", type=parse_crop, metavar="CROP", help="PHOTO:LEFT,TOP,WIDTH,HEIGHT")
    default = [SHIPPED_MODELS / "compact-real-esrgan-x4.safetensors"]
    parser.add_argument("--weights", type=Path, nargs="+", default=default, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, help="a PNG; all crops need the same width")
    options = parser.parse_args()
    picture = joined([row(crop, options.weights) for crop in options.crops], axis=0)
    Image.fromarray(picture).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
