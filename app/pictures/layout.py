"""The formats of answers: what each can hold, and how the pixels and metadata of a picture are laid out in it."""

import math
from collections.abc import AsyncIterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy

from app.errors import Unprocessable
from app.pictures.colours import CICP, NAMES, Colours, is_narrow_range, lost_colours
from app.pictures.exif import read_exif
from app.pictures.icc import Space, profile_for
from app.pictures.picture import Metadata, Picture, Pixels
from app.png.deflate import Compression


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    """The capabilities of a file format."""

    name: str
    media_type: str
    max_side_px: int
    depths: tuple[int, ...]
    """Bits of a sample that it can have, in ascending order."""
    transparent: bool
    grey: bool
    """Pictures without colour have one channel; otherwise three equal ones."""
    max_px: int | None = None
    """Maximum width times height; None if only the sides are limited."""
    lossless_at: frozenset[int | None] | None = None
    """Lossless qualities; None for a format that is always lossless."""
    icc: bool = True
    """It holds a colour profile."""
    colours: frozenset[bytes] = frozenset()
    """Descriptions of colours other than a profile that it holds, as chunks of PNG; see `app.pictures.colours`."""
    texts: bool = False
    """It holds the text chunks of a PNG."""
    narrow_range: bool = False
    """Its description of colours may say that black and white are 16 and 235."""
    max_dpi: float = math.inf
    """Largest resolution that it holds outside of EXIF; 0 for none."""
    max_exif_bytes: int | None = None
    max_xmp_bytes: int | None = None
    animated: bool = False
    """It holds animations."""
    encoder_bytes_per_px: int = 0
    """Memory of its encoder for each px of an answer, beyond the pixels."""

    @property
    def suffix(self) -> str:
        """Suffix of its files, such as `.png`."""
        return ".jpg" if self.name == "jpeg" else f".{self.name}"

    def depth(self, bits: int) -> int:
        """Return the depth for samples of some bits: the least that holds them, else the greatest."""
        return next((depth for depth in self.depths if depth >= bits), self.depths[-1])

    @property
    def limit(self) -> str:
        """The largest size that it allows, for errors."""
        in_all = f" and {self.max_px} px in all" if self.max_px else ""
        return f"{self.name} holds {self.max_side_px} px each way{in_all}"

    def holds(self, height: int, width: int) -> bool:
        """Return True if it allows pictures of this size."""
        return max(height, width) <= self.max_side_px and (self.max_px is None or height * width <= self.max_px)

    def held_colours(self, colours: Colours) -> Set[bytes]:
        """Return the descriptions of colours that it holds."""
        is_narrow = CICP in colours and is_narrow_range(colours[CICP])
        return self.colours - {CICP} if is_narrow and not self.narrow_range else self.colours

    def lost_colours(self, metadata: Metadata) -> list[bytes]:
        """Return the descriptions of colours that it loses, except a profile."""
        held = self.held_colours(metadata.colours)
        return lost_colours(metadata.colours, held, profiled=bool(metadata.icc_profile))

    def losses(self, picture: Picture, bits: int) -> tuple[bool, int, bool]:
        """Return its losses for a picture: transparency, number of bits, colours; the smallest tuple is the best."""
        metadata = picture.metadata
        colours = bool(self.lost_colours(metadata)) or bool(metadata.icc_profile and not self.icc)
        return picture.transparent and not self.transparent, max(0, bits - self.depths[-1]), colours


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The file of an answer: its format, size, channels, quality and metadata."""

    format: AnswerFormat
    width: int
    height: int
    grey: bool
    transparent: bool
    bits: int
    """Bits of each sample in the file. Rows have 8 or 16; in between, they are scaled down from 16."""
    metadata: Metadata
    quality: int | None = None
    """1 to 100; no loss at 100, apart from JPEG, and in WebP by default."""
    compression: Compression = "fast"
    """Effort of the compression of a PNG."""
    left_out: tuple[str, ...] = ()
    """Names of properties of the upload that the answer's format cannot hold."""

    @property
    def channels(self) -> int:
        """1 grey, 2 grey with alpha, 3 RGB, 4 RGBA."""
        return (1 if self.grey else 3) + (1 if self.transparent else 0)

    @property
    def lossless(self) -> bool:
        """True if the pixels of the file are those of the answer."""
        return self.format.lossless_at is None or self.quality in self.format.lossless_at

    @property
    def fills_clear(self) -> bool:
        """Clear pixels have the colour of those around them, as a lossy encoder mixes it into edges; otherwise 0."""
        return not self.lossless

    def without_metadata(self) -> "Layout":
        """Return a layout of the pixels alone."""
        return replace(self, metadata=Metadata())

    def empty(self, rows: int) -> Pixels:
        """Return uninitialised rows (rows, W, channels)."""
        return numpy.empty((rows, self.width, self.channels), numpy.uint8 if self.bits == 8 else numpy.uint16)

    async def whole(self, rows: AsyncIterable[Pixels]) -> Pixels:
        """Collect all rows of an answer (H, W, channels)."""
        pixels, filled = self.empty(self.height), 0
        async for some in rows:
            pixels[filled : filled + len(some)] = some
            filled += len(some)
        return pixels


def formats_of_size(formats: Sequence[AnswerFormat], *, height: int, width: int) -> Sequence[AnswerFormat]:
    """Return those formats that allow pictures of this size.

    Raises:
        Unprocessable: none does.
    """
    held = [form for form in formats if form.holds(height, width)]
    if not held:
        limits = ", ".join(form.limit for form in formats)
        raise Unprocessable(
            f"the answer would have {width} x {height} px, and {limits} at most; "
            "ask for format=png or for a smaller scale"
        )
    return held


def chosen_format(formats: Sequence[AnswerFormat], picture: Picture, *, bits: int | None = None) -> AnswerFormat:
    """Choose the first format that loses nothing, else the one that loses least.

    Args:
        formats: accepted formats that allow the size, the preferred one first.
        bits: wanted depth; None for the picture's.
    """
    return min(formats, key=lambda form: form.losses(picture, bits or picture.depth))


def layout_of(
    picture: Picture,
    form: AnswerFormat,
    *,
    height: int,
    width: int,
    bits: int | None = None,
    quality: int | None = None,
    compression: Compression = "fast",
) -> Layout:
    """Return the layout of an answer: everything of the picture that its format can hold.

    The colour profile is converted to one for the answer's channels where necessary.

    Args:
        form: allows the size.
        bits: wanted depth; None for the picture's.
        quality, compression: see `Layout`.
    """
    wanted = bits or picture.depth
    metadata = _metadata(picture, form)
    return Layout(
        format=form,
        width=width,
        height=height,
        grey=picture.grey,
        transparent=picture.transparent and form.transparent,
        bits=form.depth(wanted),
        metadata=metadata,
        quality=quality,
        compression=compression,
        left_out=tuple(_left_out(picture, form, wanted, metadata)),
    )


def _metadata(picture: Picture, form: AnswerFormat) -> Metadata:
    metadata = picture.metadata
    held = form.held_colours(metadata.colours)
    profile = metadata.icc_profile
    space: Space = b"GRAY" if picture.grey and form.grey else b"RGB "
    return replace(
        metadata,
        icc_profile=profile_for(space, profile) if profile and form.icc else None,
        colours={kind: body for kind, body in metadata.colours.items() if kind in held},
        exif=_within(metadata.exif, form.max_exif_bytes),
        xmp=_within(metadata.xmp, form.max_xmp_bytes),
        texts=metadata.texts if form.texts else (),
        dpi=metadata.dpi if metadata.dpi and max(metadata.dpi) <= form.max_dpi else None,
    )


def _within(part: bytes | None, max_bytes: int | None) -> bytes | None:
    return part if part and (max_bytes is None or len(part) <= max_bytes) else None


def _left_out(picture: Picture, form: AnswerFormat, bits: int, kept: Metadata) -> Iterator[str]:
    metadata = picture.metadata
    if picture.transparent and not form.transparent:
        yield "transparency"
    if bits > form.depths[-1]:
        yield "bits"
    if metadata.icc_profile and not kept.icc_profile:
        yield "icc"
    yield from (NAMES[kind] for kind in form.lost_colours(metadata))
    if metadata.exif and not kept.exif:
        yield "exif"
    if metadata.xmp and not kept.xmp:
        yield "xmp"
    if metadata.texts_left_out or len(kept.texts) < len(metadata.texts):
        yield "text"
    if metadata.dpi and not kept.dpi and not _names_resolution(kept.exif):
        yield "dpi"


def _names_resolution(exif: bytes | None) -> bool:
    tags = read_exif(exif) if exif else None
    return tags is not None and tags.dpi is not None
