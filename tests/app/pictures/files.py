"""One picture as a file of every supported kind."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy
import pyvips
from PIL import Image, ImageCms

from app.pictures.picture import Pixels
from model.pictures.limits import Limits
from tests.app.conftest import encoded, noise
from tests.model.pictures.files import chunk as chunk

LIMITS = Limits(
    max_picture_px=10_000, max_width_px=10_000, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000
)
HEIGHT, WIDTH = 7, 10
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(pixels: Pixels, *between: bytes, bits: int | None = None) -> bytes:
    """Make a PNG of samples (H, W, C); with fewer than 8 bits, of packed bytes of one grey channel.

    Args:
        between: chunks after the header.
    """
    height, width, channels = pixels.shape
    width = width * 8 // bits if bits else width
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits or 8 * pixels.itemsize, kind, 0, 0, 0)
    big_endian = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(between) + data


def levels(channels: int, *, bits: int = 8, seed: int = 0) -> Pixels:
    """Make random samples (H, W, C)."""
    kind = numpy.uint8 if bits == 8 else numpy.uint16
    return numpy.random.default_rng(seed).integers(0, 2**bits, (HEIGHT, WIDTH, channels), dtype=kind)


def tiff(pixels: Pixels, *, compression: str = "none", cmyk: bool = False) -> bytes:
    """Make a TIFF of samples (H, W, C)."""
    deep = pixels.itemsize == 2
    names = {1: ("b-w", "grey16"), 2: ("b-w", "grey16"), 3: ("srgb", "rgb16"), 4: ("srgb", "rgb16")}
    name = "cmyk" if cmyk else names[pixels.shape[-1]][deep]
    made = pyvips.Image.new_from_array(numpy.ascontiguousarray(pixels)).copy(interpretation=name)
    file: bytes = made.tiffsave_buffer(compression=compression)
    return file


def avif(pixels: Pixels, *, bits: int) -> bytes:
    """Make an AVIF of colour (H, W, 3) of 16 bits, which it stores in fewer."""
    made = pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16")
    file: bytes = made.heifsave_buffer(compression="av1", bitdepth=bits, Q=95)
    return file


def _animated(file_format: str) -> bytes:
    first, second = noise(WIDTH, HEIGHT), noise(WIDTH, HEIGHT, seed=1)
    return encoded(first, file_format, save_all=True, append_images=[second], duration=100)


def _interlaced() -> bytes:
    made = pyvips.Image.new_from_array(levels(3))
    file: bytes = made.copy(interpretation="srgb").pngsave_buffer(interlace=True)
    return file


def _palette() -> Image.Image:
    return noise(WIDTH, HEIGHT).quantize(16)


FILES: Mapping[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(noise(WIDTH, HEIGHT), "JPEG"),
    "JPEG grey": lambda: encoded(noise(WIDTH, HEIGHT, mode="L"), "JPEG"),
    "JPEG CMYK": lambda: encoded(noise(WIDTH, HEIGHT).convert("CMYK"), "JPEG"),
    "JPEG progressive": lambda: encoded(noise(WIDTH, HEIGHT), "JPEG", progressive=True),
    "PNG": lambda: encoded(noise(WIDTH, HEIGHT)),
    "PNG grey": lambda: encoded(noise(WIDTH, HEIGHT, mode="L")),
    "PNG 1 bit": lambda: encoded(noise(WIDTH, HEIGHT, mode="L").convert("1")),
    "PNG grey with alpha": lambda: png(levels(2)),
    "PNG with alpha": lambda: png(levels(4)),
    "PNG interlaced": _interlaced,
    "PNG palette": lambda: encoded(_palette()),
    "PNG palette with alpha": lambda: encoded(_palette(), transparency=0),
    "PNG transparent colour": lambda: png(levels(3), chunk(b"tRNS", struct.pack(">HHH", *levels(3)[0, 0]))),
    "PNG 16 bits grey": lambda: png(levels(1, bits=16)),
    "PNG 16 bits grey with alpha": lambda: png(levels(2, bits=16)),
    "PNG 16 bits": lambda: png(levels(3, bits=16)),
    "PNG 16 bits with alpha": lambda: png(levels(4, bits=16)),
    "APNG": lambda: _animated("PNG"),
    "WebP": lambda: encoded(noise(WIDTH, HEIGHT), "WEBP"),
    "WebP lossless with alpha": lambda: encoded(noise(WIDTH, HEIGHT, mode="RGBA"), "WEBP", lossless=True),
    "WebP animated": lambda: _animated("WEBP"),
    "TIFF": lambda: tiff(levels(3)),
    "TIFF LZW with alpha": lambda: tiff(levels(4), compression="lzw"),
    "TIFF CMYK": lambda: tiff(levels(4), cmyk=True),
    "TIFF 16 bits grey": lambda: tiff(levels(1, bits=16)),
    "TIFF 16 bits deflate": lambda: tiff(levels(3, bits=16), compression="deflate"),
    "TIFF 16 bits with alpha": lambda: tiff(levels(4, bits=16)),
    "TIFF 16 bits CMYK": lambda: tiff(levels(4, bits=16), cmyk=True),
    "TIFF of pages": lambda: _animated("TIFF"),
    "BMP": lambda: encoded(noise(WIDTH, HEIGHT), "BMP"),
    "GIF": lambda: encoded(_palette(), "GIF"),
    "GIF animated": lambda: _animated("GIF"),
    "AVIF": lambda: encoded(noise(WIDTH, HEIGHT), "AVIF"),
    "AVIF 10 bits": lambda: avif(levels(3, bits=16), bits=10),
}
"""Makers of files by kind; each is WIDTH x HEIGHT."""


def opened(file: bytes) -> Image.Image:
    """Open a file with Pillow."""
    image = Image.open(io.BytesIO(file))
    image.load()
    return image
