"""Decode the frames of a GIF, WebP or APNG as they are shown."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from model.pictures import colour, container, png_structure
from model.pictures.errors import Damaged, NotAccepted
from model.pictures.limits import Limits
from model.pictures.orientation import orientation_of
from model.pictures.png_structure import Chunk, keeps_orientation
from model.pictures.reading import ANIMATED, blaming
from model.pictures.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame with everything that the frames before have left visible."""

    samples: Samples
    duration_ms: float


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames of a file, decoded while they are iterated over."""

    frames: Iterator[Frame]
    plays: int
    """Number of times that the animation is shown; 0 for without end."""
    orientation: int
    """EXIF's, 1 to 8: how the samples have to be turned."""


def read_frames(file: bytes, limits: Limits) -> Frames:
    """Open an animation; its size and number of frames have been checked by `reading.read`.

    Raises:
        NotAccepted: a PNG with more than 8 bits a channel.
        Damaged: truncated or corrupt, also while the frames are iterated over.
    """
    known = container.known_format(file)
    with blaming(known):
        if known == "PNG":
            header = png_structure.png_header(file, limits, _animates)
            if header.bits > 8:
                raise NotAccepted(
                    "an animated PNG of 16 bits a channel is not read; save it with 8, or ask for frames=first"
                )
            file = header.still
        elif known == "GIF":
            container.check_gif_frames(file)
        image = Image.open(io.BytesIO(file), formats=ANIMATED)
        return Frames(frames=_frames(image), plays=_plays(image), orientation=orientation_of(image))


def _animates(chunk: Chunk, colour_type: int) -> bool:
    return chunk.kind in (b"acTL", b"fcTL", b"fdAT") or keeps_orientation(chunk, colour_type)


def _frames(image: Image.Image) -> Iterator[Frame]:
    numbers = range(1 if image.info.get("default_image") else 0, getattr(image, "n_frames", 1))
    for number in numbers:
        try:
            image.seek(number)
            image.load()
            yield Frame(samples=colour.of_image(image), duration_ms=max(0.0, float(image.info.get("duration") or 0)))
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise Damaged(
                f"frame {number + 1} of the {image.format} file is truncated or corrupt ({reason})"
            ) from error


def _plays(image: Image.Image) -> int:
    """Return how often an animation is shown: a GIF says how often it is repeated, the others how often it plays."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return int(loop or 0)
    return 1 if loop is None else loop + 1 if loop else 0
