"""Cut the tiles out of a photograph."""

import io
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from training.debian.errors import BrokenPackage
from training.debian.manifest import Photograph

SIDE = 512
"""Width and height of a tile; less where the scaled photograph is smaller."""


def cut(photograph: Photograph, content: bytes, folder: Path) -> None:
    """Write the tiles of a photograph as PNG files; each appears under its name when it is complete.

    Transparency is dropped, not blended: the colours below it are those of the photograph.

    Raises:
        BrokenPackage: the picture cannot be decoded here.
    """
    with suppress(ImportError):
        import_module("pillow_jxl")  # registers JPEG XL with Pillow, where it is installed
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGB")
    except UnidentifiedImageError as error:
        way_out = "; install pillow-jxl-plugin, then run again" if photograph.path.endswith(".jxl") else ""
        raise BrokenPackage(f"this Pillow cannot decode it{way_out}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BrokenPackage(f"it cannot be decoded ({error})") from error
    if photograph.scale != 1:
        size = (round(picture.width * photograph.scale), round(picture.height * photograph.scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    width, height = min(SIDE, picture.width), min(SIDE, picture.height)
    for name, (left, top) in zip(photograph.tiles, photograph.crops, strict=True):
        unfinished = folder / f".{name}.unfinished"
        try:
            picture.crop((left, top, left + width, top + height)).save(unfinished, format="PNG", compress_level=6)
            unfinished.replace(folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
