"""A picture file: its header, and its first picture."""

from dataclasses import dataclass

from PIL import Image

from model.pictures.boxes import Items
from model.pictures.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Header:
    """The size and depth of a picture, known before anything is decoded."""

    planes: int
    """Maximum planes of the picture: two if it may be transparent."""
    height: int
    """Size of the upright picture; as stored if a PNG has its orientation only after its pixels."""
    width: int
    bits: int
    """Bits of a channel: 8 or 16."""
    format: str = ""
    """Format of the file, in Pillow's name."""
    frames: int = 1
    """Number of frames of an animation."""


@dataclass(frozen=True, kw_only=True)
class FilePicture:
    """The first picture of a file."""

    samples: Samples
    orientation: int
    """EXIF's orientation of the samples, 1 to 8."""
    frames: int
    """Pictures in the file."""
    image: Image.Image
    """Its profile, EXIF, XMP and resolution, as Pillow holds them. The pixels mean nothing."""
    bits: int | None = None
    """Bits of a channel in the file, where that is known to be less than the samples have: 10 or 12."""
    directory: int | None = None
    """Offset of its directory, in a TIFF."""
    items: Items | None = None
    """Items of the file, in an AVIF or HEIC."""
