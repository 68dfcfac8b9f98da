"""Decode the frames of a GIF, WebP or APNG as they are shown."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from model.pictures import apng, colour, container, gif, png_structure
from model.pictures.compositing import Frame, composed
from model.pictures.errors import Damaged, NotAccepted, OverLimit, one_line
from model.pictures.limits import Limits
from model.pictures.orientation import orientation_of
from model.pictures.png_structure import Chunk, keeps_orientation
from model.pictures.reading import blaming
from model.pictures.samples import UPRIGHT


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames of a file, decoded while they are iterated over."""

    frames: Iterator[Frame]
    plays: int
    """Number of plays; 0 for endless."""
    orientation: int
    """EXIF's orientation of the samples, 1 to 8."""


def read_frames(file: bytes, limits: Limits) -> Frames:
    """Open an animation; its size and number of frames have been checked by `reading.read`.

    Raises:
        NotAccepted: a PNG with more than 8 bits a channel.
        Damaged: truncated or corrupt, also while the frames are iterated over.
    """
    known = container.known_format(file)
    with blaming(known):
        if known == "PNG":
            return _of_png(file, limits)
        if known == "GIF":
            header = gif.gif_header(file, limits)
            gif.check_places(file, header.width, header.height)
            frames = composed(gif.pieces(file), header.width, header.height)
            return Frames(frames=_checked(frames, "GIF"), plays=gif.plays_of(file), orientation=UPRIGHT)
        image = Image.open(io.BytesIO(file), formats=("WEBP",))
        plays = int(image.info.get("loop") or 0)
        return Frames(frames=_checked(_of_webp(image), "WebP"), plays=plays, orientation=orientation_of(image))


def _of_png(file: bytes, limits: Limits) -> Frames:
    header = png_structure.png_header(file, limits, _animates)
    if header.bits > 8:
        raise NotAccepted("an animated PNG of 16 bits a channel is not read; save it with 8, or ask for frames=first")
    still = png_structure.png_header(file, limits, keeps_orientation, whole=False).still
    image = Image.open(io.BytesIO(still), formats=("PNG",))
    frames = composed(apng.pieces(header.still, header.size, limits), *header.size)
    plays = apng.plays_of(header.still)
    return Frames(frames=_checked(frames, "PNG"), plays=plays, orientation=orientation_of(image))


def _animates(chunk: Chunk) -> bool:
    return chunk.kind in (b"acTL", b"fcTL", b"fdAT")


def _of_webp(image: Image.Image) -> Iterator[Frame]:
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        yield Frame(samples=colour.of_image(image), duration_ms=max(0.0, float(image.info.get("duration") or 0)))


def _checked(frames: Iterator[Frame], file_format: str) -> Iterator[Frame]:
    """Yield frames; name the one at which a decoder fails."""
    number = 1
    try:
        for frame in frames:
            yield frame
            number += 1
    except (NotAccepted, OverLimit, MemoryError):
        raise
    except Exception as error:
        raise Damaged(
            f"frame {number} of the {file_format} file is truncated or corrupt ({one_line(error)})"
        ) from error
