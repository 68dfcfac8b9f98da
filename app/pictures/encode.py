"""Encodes the rows of an answer in one of the formats of answers."""

import io
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy
from PIL import Image

from app.errors import Unprocessable
from app.pictures.exif import EXIF_NAME
from app.pictures.icc import Space, profile_for
from app.pictures.picture import Metadata, Picture, Pixels
from app.png.encoder import PngLayout, png_pieces
from app.threads import in_thread

JPEG_QUALITY = 95
"""Default JPEG quality: high, to keep the detail just generated."""

JPEG_SEGMENT_BYTES = 65_533
"""Maximum bytes of EXIF or XMP in a JPEG, including their name."""
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    """The capabilities of a file format."""

    name: str
    media_type: str
    max_side_px: int
    max_bits: int
    transparent: bool
    grey: bool
    """Pictures without colour have one channel; otherwise three equal ones."""

    def losses(self, picture: Picture) -> tuple[bool, bool]:
        """Return whether it loses a picture's transparency and its depth; smaller is better."""
        return picture.transparent and not self.transparent, picture.bits > self.max_bits


FORMATS: Mapping[str, AnswerFormat] = {
    found.name: found
    for found in (
        AnswerFormat(
            name="png", media_type="image/png", max_side_px=2**31 - 1, max_bits=16, transparent=True, grey=True
        ),
        AnswerFormat(
            name="webp", media_type="image/webp", max_side_px=16_383, max_bits=8, transparent=True, grey=False
        ),
        AnswerFormat(
            name="jpeg", media_type="image/jpeg", max_side_px=65_500, max_bits=8, transparent=False, grey=True
        ),
    )
}
"""Formats of answers, best first. A JPEG could have sides of 65535 px, but libjpeg reads at most 65500."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The size, channels and metadata of an answer."""

    width: int
    height: int
    grey: bool
    transparent: bool
    bits: int
    """Bits of each sample: 8 or 16."""
    metadata: Metadata

    @property
    def channels(self) -> int:
        """1 grey, 2 grey with alpha, 3 RGB, 4 RGBA."""
        return (1 if self.grey else 3) + (1 if self.transparent else 0)

    def empty(self, rows: int) -> Pixels:
        """Return uninitialised rows (rows, W, channels)."""
        return numpy.empty((rows, self.width, self.channels), numpy.uint8 if self.bits == 8 else numpy.uint16)


def chosen_format(formats: Sequence[AnswerFormat], picture: Picture, *, height: int, width: int) -> AnswerFormat:
    """Choose the first format that loses nothing and allows the size, else the one that loses least.

    Args:
        formats: accepted formats, the preferred one first.
    """
    large_enough = [form for form in formats if max(height, width) <= form.max_side_px]
    return min(large_enough or formats, key=lambda form: form.losses(picture))


def layout_of(picture: Picture, form: AnswerFormat, *, height: int, width: int) -> Layout:
    """Return the layout of an answer: everything of the picture that its format can hold.

    The colour profile is converted to one for the answer's channels where necessary.

    Raises:
        Unprocessable: the format does not allow pictures of this size.
    """
    if max(height, width) > form.max_side_px:
        raise Unprocessable(
            f"the answer would have {width} x {height} px, and {form.name} holds {form.max_side_px} px each way at "
            "most; ask for format=png or for a smaller scale"
        )
    profile = picture.metadata.icc_profile
    space: Space = b"GRAY" if picture.grey and form.grey else b"RGB "
    return Layout(
        width=width,
        height=height,
        grey=picture.grey,
        transparent=picture.transparent and form.transparent,
        bits=min(picture.bits, form.max_bits),
        metadata=replace(picture.metadata, icc_profile=profile_for(space, profile) if profile else None),
    )


def encoded(
    rows: AsyncIterable[Pixels], layout: Layout, form: AnswerFormat, pool: Executor, *, quality: int | None = None
) -> AsyncGenerator[bytes, None]:
    """Encode an answer in pieces: a PNG while its rows arrive, other formats at the end.

    Args:
        rows: of the layout, in order.
        pool: runs the encoding.
        quality: 1 to 100, of WebP (lossless by default and at 100) and JPEG.
    """
    if form.name == "png":
        return png_pieces(_png_layout(layout), rows, pool)
    return _whole(rows, layout, form, pool, quality)


def _png_layout(layout: Layout) -> PngLayout:
    metadata = layout.metadata
    return PngLayout(
        width=layout.width,
        height=layout.height,
        channels=layout.channels,
        bits=layout.bits,
        icc_profile=metadata.icc_profile,
        exif=metadata.exif,
        xmp=metadata.xmp,
        dpi=metadata.dpi,
    )


async def _whole(
    rows: AsyncIterable[Pixels], layout: Layout, form: AnswerFormat, pool: Executor, quality: int | None
) -> AsyncGenerator[bytes, None]:
    picture, filled = layout.empty(layout.height), 0
    async for some in rows:
        picture[filled : filled + len(some)] = some
        filled += len(some)
    yield await in_thread(pool, lambda: _file(picture, layout, form, quality))


def _file(pixels: Pixels, layout: Layout, form: AnswerFormat, quality: int | None) -> bytes:
    metadata = layout.metadata
    options: dict[str, object] = {"icc_profile": metadata.icc_profile, "dpi": metadata.dpi}
    options |= {"exif": EXIF_NAME + metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    if form.name == "webp":
        lossless = quality in (None, 100)
        options |= {"lossless": lossless, "quality": 50 if lossless else quality}
    elif form.name == "jpeg":
        options |= {"quality": quality or JPEG_QUALITY, "subsampling": "4:4:4"}
        if metadata.exif and len(EXIF_NAME + metadata.exif) > JPEG_SEGMENT_BYTES:
            del options["exif"]
        if metadata.xmp and len(XMP_NAME + metadata.xmp) > JPEG_SEGMENT_BYTES:
            del options["xmp"]
    image = Image.fromarray(pixels[..., 0] if layout.channels == 1 else pixels)
    file = io.BytesIO()
    image.save(file, form.name, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()
