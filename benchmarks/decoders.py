"""python -m benchmarks.decoders FOLDER: our decoder beside Pillow's on every file; prints where they differ.

Pillow's own test pictures are a good folder: `pip download pillow --no-deps --no-binary :all:`, then `Tests/images`.
"""

import argparse
import io
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy
from PIL import Image, ImageOps

from app.errors import ServiceError
from app.pictures.decode import decode, prepare_decoders
from app.pictures.limits import Limits
from app.pictures.picture import Picture
from app.settings import Settings

SLOW_S = 1.0
"""A file that takes longer is named."""


def main() -> None:
    """Compare, print one line for each file that differs, and count the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    warnings.simplefilter("ignore")
    prepare_decoders()
    limits = Limits.of(Settings())
    outcomes: Counter[str] = Counter()
    for path in sorted(path for path in parser.parse_args().folder.rglob("*") if path.is_file()):
        upload = path.read_bytes()
        began_s = time.perf_counter()
        try:
            picture, said = decode(upload, limits), "decoded"
        except ServiceError as error:
            picture, said = None, f"{error.status} {error.detail}"
        took_s = time.perf_counter() - began_s
        outcomes[said[:7].split()[0]] += 1
        difference = _difference(picture, _seen_by_pillow(upload, limits.max_picture_px), said)
        if difference or took_s > SLOW_S:
            print(f"{path.name}: {difference or 'the same'} ({took_s:.1f} s)")
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))


def _seen_by_pillow(upload: bytes, max_px: int) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(upload))
        if image.width * image.height > max_px:
            return None
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception:
        return None  # it cannot read it


def _difference(ours: Picture | None, theirs: Image.Image | None, said: str) -> str:
    if ours is None:
        return f"Pillow reads it, we say {said}" if theirs is not None else ""
    if theirs is None:
        return "only we read it"
    if theirs.size != (ours.width, ours.height):
        return f"{theirs.size} there, {(ours.width, ours.height)} here"
    levels = ours.planes.astype(int) if ours.bits == 8 else (ours.planes.astype(int) + 128) // 257
    if theirs.mode.startswith("I;16"):  # which Pillow clips when it converts it
        theirs = Image.fromarray(((numpy.asarray(theirs).astype(int) + 128) // 257).astype(numpy.uint8))
    expected = numpy.array(theirs.convert("RGBA")).astype(int)
    alpha = levels[1, ..., 0] if ours.transparent else numpy.full_like(expected[..., 3], 255)
    off = max(
        int(numpy.abs(levels[0] - expected[..., :3])[alpha > 0].max(initial=0)),
        int(numpy.abs(alpha - expected[..., 3]).max()),
    )
    return f"mode {theirs.mode}: off by up to {off} levels" if off > 1 else ""


if __name__ == "__main__":
    main()
