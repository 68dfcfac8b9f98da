"""Rows of an answer -> its bytes, in one of the formats that answers may have."""

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
"""If none is asked for: what upscaling has just drawn should not go again."""

JPEG_SEGMENT_BYTES = 65_533
"""Most bytes of a JPEG's EXIF or XMP, with the name in front."""
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    """What a file format can hold."""

    name: str
    media_type: str
    max_side_px: int
    max_bits: int
    transparent: bool
    grey: bool
    """Pictures without colour have one channel; elsewhere they have three equal ones."""

    def losses(self, picture: Picture) -> tuple[bool, bool]:
        """Say if it loses the transparency of a picture, and if its depth; less is better."""
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
"""Best first. JPEG could count to 65535, but libjpeg, which nearly everybody reads it with, stops at 65500."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What an answer is, before its pixels."""

    width: int
    height: int
    grey: bool
    transparent: bool
    bits: int
    """Of each sample: 8 or 16."""
    metadata: Metadata

    @property
    def channels(self) -> int:
        """1 grey, 2 grey with alpha, 3 RGB, 4 RGBA."""
        return (1 if self.grey else 3) + (1 if self.transparent else 0)

    def empty(self, rows: int) -> Pixels:
        """Rows (rows, W, channels) to be filled."""
        return numpy.empty((rows, self.width, self.channels), numpy.uint8 if self.bits == 8 else numpy.uint16)


def chosen_format(formats: Sequence[AnswerFormat], picture: Picture, *, height: int, width: int) -> AnswerFormat:
    """The format of an answer: the first that holds its size and all of the picture, else the one that loses least.

    Args:
        formats: those that the caller accepts, the preferred one first.
    """
    large_enough = [form for form in formats if max(height, width) <= form.max_side_px]
    return min(large_enough or formats, key=lambda form: form.losses(picture))


def layout_of(picture: Picture, form: AnswerFormat, *, height: int, width: int) -> Layout:
    """The layout of an answer: all of the picture that its format can hold.

    Its profile is one for the channels that it has.

    Raises:
        Unprocessable: the format cannot be that large.
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
    """The file of an answer, in pieces: a PNG while its rows come, others at the end.

    Args:
        rows: of the layout, in order.
        pool: where the encoding is done.
        quality: 1 to 100, of WebP (lossless without one or at 100) and JPEG.
    """
    if form.name == "png":
        return png_pieces(_png_layout(layout), rows, pool)
    return _whole(rows, layout, form, pool, quality)


def _png_layout(layout: Layout) -> PngLayout:
    said = layout.metadata
    return PngLayout(
        width=layout.width,
        height=layout.height,
        channels=layout.channels,
        bits=layout.bits,
        icc_profile=said.icc_profile,
        exif=said.exif,
        xmp=said.xmp,
        dpi=said.dpi,
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
    said = layout.metadata
    options: dict[str, object] = {"icc_profile": said.icc_profile, "dpi": said.dpi}
    options |= {"exif": EXIF_NAME + said.exif} if said.exif else {}
    options |= {"xmp": said.xmp} if said.xmp else {}
    if form.name == "webp":
        lossless = quality in (None, 100)
        options |= {"lossless": lossless, "quality": 50 if lossless else quality}
    elif form.name == "jpeg":
        options |= {"quality": quality or JPEG_QUALITY, "subsampling": "4:4:4"}
        if said.exif and len(EXIF_NAME + said.exif) > JPEG_SEGMENT_BYTES:
            del options["exif"]
        if said.xmp and len(XMP_NAME + said.xmp) > JPEG_SEGMENT_BYTES:
            del options["xmp"]
    image = Image.fromarray(pixels[..., 0] if layout.channels == 1 else pixels)
    file = io.BytesIO()
    image.save(file, form.name, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()
