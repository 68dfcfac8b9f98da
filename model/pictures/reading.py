"""Read the samples of a picture file. The format is detected from its content; limits are checked before decoding."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy
import pyvips
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from model.pictures import apng_structure, bmp, chroma, colour, container, deep, gif, heic, jpeg, tiff
from model.pictures.boxes import Items
from model.pictures.errors import Damaged, NotAccepted, OverLimit, PictureError, one_line
from model.pictures.limits import Limits
from model.pictures.orientation import orientation_of, size_in_header, upright_size
from model.pictures.picture_file import FilePicture, Header
from model.pictures.png_structure import Keeps, PngHeader, keeps_orientation
from model.pictures.samples import UPRIGHT, Samples, placed
from model.pictures.tiff_directory import TiffFile
from model.pictures.tiff_layout import Layout, layout_of

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
"""The formats that are accepted, in Pillow's names. Of a JPEG with further pictures (MPO) the first one is taken."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"}
    | {".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"}
)
"""Suffixes of their files, in lower or upper case. Of a folder these are taken; a file that is named may have any."""

ANIMATED = ("GIF", "WEBP", "PNG")
"""Formats whose frames `model.pictures.animation` reads."""


@cache
def prepare_decoders() -> None:
    """Set up what is global in the libraries."""
    heic.register()
    Image.MAX_IMAGE_PIXELS = None  # the limits say how many
    PngImagePlugin.MAX_TEXT_CHUNK = 2**22  # bytes: the default limit on a text of the other formats


def accepted_formats() -> tuple[str, ...]:
    """Return `FORMATS`, without HEIF if no reader for it is installed."""
    return FORMATS if heic.installed() else tuple(name for name in FORMATS if name != "HEIF")


def read_header(file: bytes, limits: Limits) -> Header:
    """Look at the header of a file.

    Raises:
        NotAccepted: not one of `FORMATS`, or of a kind that is not read.
        OverLimit: more than the limits allow.
        Damaged: the header is corrupt.
    """
    known = container.known_format(file)
    with blaming(known):
        if known == "TIFF":
            return _tiff_header(_tiff_layout(file, limits))
        if found := _unopened(file, known, limits):
            height, width, frames = found.height, found.width, found.frames
            return Header(planes=found.planes, height=height, width=width, bits=8, format=known or "", frames=frames)
        container.check_before_opening(file, limits)
        try:
            opened = _opened(file, known, limits, keeps_orientation, whole=False)
        except _RareAvif:
            height, width, bits, transparent = deep.rare_avif_size(file, limits)
            return Header(planes=1 + transparent, height=height, width=width, bits=bits, format="AVIF")
        image, png = opened.image, opened.png
        size = png.size if png else image.size
        transparent = image.has_transparency_data or size != image.size or bool(png and png.has_transparent_colour)
        bits = 16 if _bits(opened) > 8 else 8
        height, width = size_in_header(image, size)
        file_format = known or image.format or ""
        frames = _frames(opened, limits) if file_format in ANIMATED else 1
        return Header(planes=1 + transparent, height=height, width=width, bits=bits, format=file_format, frames=frames)


def read(file: bytes, limits: Limits, keeps: Keeps = keeps_orientation) -> FilePicture:
    """Decode the first picture of a file.

    Args:
        keeps: chooses the optional chunks of a PNG to keep in `FilePicture.image`.

    Raises:
        NotAccepted: not one of `FORMATS`, or of a kind that is not read.
        OverLimit: the header announces more than the limits allow.
        Damaged: truncated or corrupt.
    """
    known = container.known_format(file)
    with blaming(known):
        if known == "TIFF":
            return _read_tiff(_tiff_layout(file, limits))
        if found := _unopened(file, known, limits):
            return _read_unopened(file, found)
        items = container.check_before_opening(file, limits)
        try:
            opened = _opened(file, known, limits, keeps)
        except _RareAvif:
            return _read_rare_avif(file, items, limits)
        frames = _frames(opened, limits)
        samples = _samples(opened, items)
        if opened.png:
            samples = placed(samples, opened.png.place, opened.png.size)
        orientation = UPRIGHT if samples.upright else orientation_of(opened.image)
        return FilePicture(
            samples=samples,
            orientation=orientation,
            frames=frames,
            image=opened.image,
            bits=_bits(opened) if samples.colour.dtype == numpy.uint16 else None,
            items=items,
        )


def read_size(path: Path, limits: Limits) -> tuple[int, int]:
    """Return height and width of a picture, upright, from the header of its file alone.

    Raises:
        Exception: it is not the header of a picture.
    """
    prepare_decoders()
    with path.open("rb") as file:
        head = file.read(32)
        if container.known_format(head) == "TIFF":
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                layout = _tiff_layout(content, limits)
                return upright_size(layout.width, layout.height, layout.orientation)
    with suppress(Exception), Image.open(path, formats=_formats(head)) as image:
        limits.check_size(image.width, image.height, path.stat().st_size)
        return size_in_header(image, image.size)
    header = read_header(path.read_bytes(), limits)  # of a kind on which Pillow fails
    return header.height, header.width


def _formats(file: bytes) -> list[str]:
    return [name for name in container.formats_to_open(file) if name in accepted_formats()]


@contextmanager
def blaming(known: str | None) -> Iterator[None]:
    """Treat any error of a decoder within the block, except a lack of memory, as a fault of the file."""
    prepare_decoders()
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        _refuse_large_text(error)
        raise deep.refusal(known or "picture", error) from error


def _tiff_layout(file: bytes | mmap, limits: Limits) -> Layout:
    layout = layout_of(TiffFile(file), limits)
    tiff.check_accepted(layout)
    return layout


def _tiff_header(layout: Layout) -> Header:
    bits = 16 if layout.bits > 8 else 8
    height, width = upright_size(layout.width, layout.height, layout.orientation)
    planes = 1 + (layout.alpha is not None)
    return Header(planes=planes, height=height, width=width, bits=bits, format="TIFF")


def _read_tiff(layout: Layout) -> FilePicture:
    samples, image = tiff.read(layout)
    return FilePicture(
        samples=samples,
        orientation=layout.orientation,
        frames=layout.frames,
        bits=layout.bits if samples.colour.dtype == numpy.uint16 else None,
        image=image,
        directory=layout.directory.place,
    )


def _unopened(file: bytes, known: str | None, limits: Limits) -> bmp.BmpHeader | gif.GifHeader | None:
    """Read the header of a kind of file that Pillow does not open; None for one that it does."""
    if known == "BMP":
        return bmp.bmp_header(file, limits)
    return gif.gif_header(file, limits) if known == "GIF" else None


def _read_unopened(file: bytes, found: bmp.BmpHeader | gif.GifHeader) -> FilePicture:
    said = Image.new("1", (1, 1))
    said.info["dpi"] = tuple(per_m * 0.0254 for per_m in found.px_per_m)
    said.info["icc_profile"] = found.profile
    return FilePicture(samples=found.samples(file), orientation=UPRIGHT, frames=found.frames, image=said)


class _RareAvif(Exception):
    """Pillow does not know this AVIF, but libvips may."""


def _read_rare_avif(file: bytes, items: Items | None, limits: Limits) -> FilePicture:
    deep.rare_avif_size(file, limits)
    try:
        samples = deep.samples(file, "AVIF", items)
    except deep.Unsupported as error:
        raise NotAccepted("an AVIF of this rare kind is not accepted; save it as PNG") from error
    corner = pyvips.Image.heifload_buffer(file).crop(0, 0, 1, 1).pngsave_buffer()
    image = Image.open(io.BytesIO(corner), formats=("PNG",))
    return FilePicture(samples=samples, orientation=UPRIGHT, frames=1, image=image, items=items)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file whose header was read and is within the limits."""

    content: bytes
    image: Image.Image
    png: PngHeader | None


def _opened(file: bytes, known: str | None, limits: Limits, keeps: Keeps, *, whole: bool = True) -> _File:
    """Open a file that was checked, and check its header against the limits.

    Args:
        whole: check the checksums of a PNG's pixels, too.
    """
    if known == "HEIF":
        heic.reader()  # raises if there is none
    png = apng_structure.header_as_shown(file, limits, keeps, whole=whole) if known == "PNG" else None
    content = png.still if png else container.for_decoder(file, known)
    try:
        image = jpeg.opened(content) if known == "JPEG" else Image.open(io.BytesIO(content), formats=_formats(file))
    except UnidentifiedImageError as error:
        if known == "AVIF":
            raise _RareAvif from error
        if known:
            raise Damaged(f"the header of the {known} file is truncated or corrupt") from error
        accepted = ", ".join(accepted_formats())
        raise NotAccepted(f"the file is not a picture in a known format; accepted are {accepted}") from error
    except MemoryError:
        raise
    except Exception as error:  # any other error of a decoder is the file's fault
        if known == "AVIF":
            raise _RareAvif from error
        _refuse_large_text(error)
        raise Damaged(f"the header of the {known or 'picture'} is corrupt ({one_line(error)})") from error
    limits.check_size(image.width, image.height, len(file))
    if known == "BMP":  # Pillow does not look for a profile in it
        image.info["icc_profile"] = bmp.profile_of(file, limits)
    return _File(content=content, image=image, png=png)


def _refuse_large_text(error: Exception) -> None:
    """Raise OverLimit if Pillow stopped at its own limit for text in a PNG, before or after the pixels."""
    if "MAX_TEXT_CHUNK" in str(error):
        raise OverLimit("a compressed text or profile in the PNG is far too large; save it without") from error


def _frames(file: _File, limits: Limits) -> int:
    if file.png:
        return file.png.frames
    if file.image.format in ("JPEG", "MPO"):
        jpeg.check_scans(file.content)
        return 1
    return limits.check_frames(getattr(file.image, "n_frames", 1))


def _samples(file: _File, items: Items | None) -> Samples:
    image = file.image
    if image.format in ("JPEG", "MPO"):
        return jpeg.samples_of(file.content, image)
    if image.format == "HEIF":
        return deep.samples(file.content, "HEIF", items)
    image.load()
    if items and items.primary.property(b"clap"):  # a crop, which Pillow ignores
        return deep.samples(file.content, "AVIF", items)
    needs_depth = _bits(file) > 8 and not image.mode.startswith("I")
    if needs_depth or (file.png and file.png.has_transparent_colour):
        with suppress(deep.Unsupported):
            return deep.samples(file.content, image.format or "", items)
    samples = colour.of_image(image)
    return replace(samples, grey=True) if items and chroma.is_grey(items) else samples


def _bits(file: _File) -> int:
    """Return the bits of a channel in the file; 8 for kinds that are read in 8 bits."""
    if file.png:
        return file.png.bits
    if file.image.format == "AVIF":
        return deep.bits_of_avif(file.content)
    if file.image.format == "HEIF":
        return int(file.image.info["bit_depth"])
    return 8
