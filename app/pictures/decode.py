"""Bytes of an upload -> Picture. The format is told by content, never by name; limits are checked before decoding."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy
import pyvips
from pi_heif import register_heif_opener
from PIL import Image, UnidentifiedImageError

from app.errors import ServiceError, TooLarge, Unprocessable, UnsupportedFormat
from app.pictures import bmp, colour, container, deep, png_chunks
from app.pictures.colour import Samples
from app.pictures.limits import Limits
from app.pictures.metadata import UPRIGHT, MetadataRule, metadata_of, orientation_of
from app.pictures.picture import Metadata, Picture, Pixels, most, planes_of

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
"""The formats that are accepted, in Pillow's names. Of a JPEG with further pictures (MPO) the first one is taken."""

RARE = frozenset({"TIFF", "AVIF", "BMP"})
"""Those of which we read kinds that Pillow does not."""

BITS_PER_SAMPLE = 258
"""A field of a TIFF."""


def prepare_decoders() -> None:
    """Set up what is global in the libraries: once, before the first picture."""
    register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # the settings say how many


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of an upload tells, before anything is decoded."""

    planes: int
    """Most that the picture may have: two where it may be transparent."""
    height: int
    width: int
    """Both as stored, not upright."""
    bits: int
    """Of a channel: 8 or 16."""


def read_header(upload: bytes, limits: Limits) -> Header:
    """Look at the header of an upload.

    Raises:
        UnsupportedFormat: not one of `FORMATS`.
        TooLarge: more than the limits allow.
        Unprocessable: the header is corrupt.
    """
    try:
        file = _opened(upload, limits, whole=False)
    except _Rare as rare:
        return _rare_header(upload, rare.format, limits)
    transparent = file.image.has_transparency_data or (file.png is not None and file.png.has_transparent_colour)
    with _blaming(file):
        bits = 16 if _bits(file) > 8 else 8
    return Header(planes=1 + transparent, height=file.image.height, width=file.image.width, bits=bits)


def decode(upload: bytes, limits: Limits, metadata: MetadataRule = "keep") -> Picture:
    """Decode the first frame of an upload, upright.

    Raises:
        UnsupportedFormat: not one of `FORMATS`, or pixels of a kind that has no fixed range.
        TooLarge: more than the limits allow, which the header tells.
        Unprocessable: truncated or corrupt.
    """
    try:
        file = _opened(upload, limits)
    except _Rare as rare:
        file = _opened(_png_of_rare(upload, rare.format, limits), limits)
    with _blaming(file):
        frames = _frames(file, limits)
        samples = _samples(file)
        orientation = UPRIGHT if samples.upright else orientation_of(file.image)
        said = metadata_of(file.image, upload, metadata, grey=samples.grey, converted=samples.converted)
        return _upright(samples, orientation, said, limits, frames)


class _Rare(Exception):
    """Pillow does not know this file of a format that it knows, but others may."""

    def __init__(self, file_format: str) -> None:
        super().__init__(file_format)
        self.format = file_format


def _rare_header(upload: bytes, file_format: str, limits: Limits) -> Header:
    if file_format == "BMP":
        fields = bmp.bit_fields(upload, limits)
        return Header(planes=1 + (len(fields.masks) == 4), height=fields.height, width=fields.width, bits=8)
    seen = deep.rare_header(upload, file_format, limits)
    return Header(planes=1 + seen.transparent, height=seen.height, width=seen.width, bits=seen.bits)


def _png_of_rare(upload: bytes, file_format: str, limits: Limits) -> bytes:
    if file_format == "BMP":
        return bmp.png_of_bmp(upload, limits)
    return deep.png_of_rare(upload, file_format, limits)


@dataclass(frozen=True, kw_only=True)
class _File:
    """An upload whose header was read, and that is no larger than it may be."""

    content: bytes
    image: Image.Image
    png: png_chunks.PngHeader | None


@contextmanager
def _blaming(file: _File) -> Iterator[None]:
    """Whatever a decoder trips over is the file's fault."""
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:
        raise deep.refusal(file.image.format or "picture", error) from error


def _opened(upload: bytes, limits: Limits, *, whole: bool = True) -> _File:
    """The opened file.

    Args:
        whole: check a PNG's checksums of pixels, too.
    """
    known = container.known_format(upload)
    container.check_before_opening(upload, limits)
    png = png_chunks.png_header(upload, limits, whole=whole) if known == "PNG" else None
    content = png.still if png else upload
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        if known in RARE:
            raise _Rare(known) from error
        if known:
            raise Unprocessable(f"the header of the {known} file is truncated or corrupt") from error
        accepted = ", ".join(FORMATS)
        raise UnsupportedFormat(f"the upload is not a picture in a known format; accepted are {accepted}") from error
    except Exception as error:  # whatever a decoder trips over is the file's fault
        if known in RARE and known != "TIFF":
            raise _Rare(known) from error
        if "MAX_TEXT_CHUNK" in str(error):
            raise TooLarge("a compressed text or profile in the PNG is far too large; save it without") from error
        raise Unprocessable(f"the header of the {known or 'picture'} is corrupt ({_one_line(error)})") from error
    limits.check_size(image.width, image.height, len(upload))
    return _File(content=content, image=image, png=png)


def _frames(file: _File, limits: Limits) -> int:
    if file.png:
        return file.png.frames
    if file.image.format in ("JPEG", "MPO"):
        container.check_scans(file.content)
        return 1
    if file.image.format == "GIF":
        return container.gif_frames(file.content, limits)
    if file.image.format == "TIFF":
        return container.tiff_frames(file.content, limits)
    return limits.check_frames(getattr(file.image, "n_frames", 1))


def _samples(file: _File) -> Samples:
    image = file.image
    try:
        image.load()
    except Exception:
        if image.format == "TIFF":  # of a compression that only libvips knows, if of any
            with suppress(deep.Unsupported, pyvips.Error):
                return deep.samples(file.content, "TIFF")
        raise
    needs_depth = _bits(file) > 8 and not image.mode.startswith(("I", "F"))
    if needs_depth or (file.png and (file.png.bits > 8 or file.png.has_transparent_colour)):
        with suppress(deep.Unsupported):
            return deep.samples(file.content, image.format or "")
    return colour.of_image(image)


def _bits(file: _File) -> int:
    """Bits of a channel in the file; 8 for what we take at no more."""
    if file.png:
        return file.png.bits
    if file.image.format == "AVIF":
        return deep.bits_of_avif(file.content)
    if file.image.format == "HEIF":
        return int(file.image.info["bit_depth"])
    if file.image.format != "TIFF":
        return 8
    said: int | tuple[int, ...] = getattr(file.image, "tag_v2", {}).get(BITS_PER_SAMPLE, 1)
    return said if isinstance(said, int) else max(said)


def _upright(samples: Samples, orientation: int, metadata: Metadata, limits: Limits, frames: int) -> Picture:
    pixels, alpha = _turned(samples.colour, orientation), samples.alpha
    limits.check_width(pixels.shape[1])
    if alpha is None or int(alpha.min()) == most(alpha):
        planes = numpy.ascontiguousarray(pixels[None])
    else:
        planes = planes_of(pixels, _turned(alpha, orientation))
    bits = 8 if planes.dtype == numpy.uint8 else 16
    return Picture(planes=planes, grey=samples.grey, bits=bits, metadata=metadata, frames=frames)


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels (H, W, ...) as EXIF's orientation wants them shown."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return numpy.flip(pixels, flips)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
