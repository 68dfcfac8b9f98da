"""The samples of a TIFF. Its layout says what they mean; decoders only unpack bytes.

Codecs of plain bytes, such as LZW, are decompressed by Pillow as if each row were a row of grey bytes, which is cut
into samples here. So the same code serves every colour, depth, byte order and number of channels. JPEG and fax
need to know the colour, so Pillow decodes them completely, or libvips where Pillow lacks the codec.
"""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy
import pyvips
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.pictures import tiff_layout as tags
from model.pictures import tiff_ycbcr
from model.pictures.colour import in_srgb, lab_in_srgb, of_image
from model.pictures.errors import Damaged, NotAccepted
from model.pictures.samples import SLICE_ROWS, Pixels, Samples, divide_by_alpha, max_level
from model.pictures.tiff_layout import CIELAB, GREY, ICCLAB, LAB, MIN_IS_WHITE, PALETTE, RGB, SEPARATED, YCBCR, Layout

BYTE_CODECS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions of plain bytes: none, LZW, Deflate, PackBits, LZMA, Zstandard."""

MAX_CHANNELS = 8
"""Maximum channels in one plane, so that extra ones cost little memory."""

ROW_FIELDS = frozenset({tags.EXTRA_SAMPLES, tags.SAMPLE_FORMAT, tags.PREDICTOR, tags.COLOUR_MAP, *range(529, 533)})
"""Fields to drop when the file is presented as rows of grey bytes."""


def is_unpacked_here(layout: Layout) -> bool:
    """Return True if the samples are cut from rows of bytes, not decoded by a library that knows their colour."""
    return layout.compression in BYTE_CODECS


def check_accepted(layout: Layout) -> None:
    """Refuse combinations that no code here reads.

    Raises:
        NotAccepted: it is one.
    """
    if layout.photometric == YCBCR and layout.planar:
        raise NotAccepted(_rare(layout, "YCbCr in separate planes"))
    if not is_unpacked_here(layout):
        if layout.bits > 8:
            raise NotAccepted(_rare(layout, f"{layout.bits} bits in compression {layout.compression}"))
        return
    if layout.photometric == YCBCR and (rarity := tiff_ycbcr.rarity(layout)):
        raise NotAccepted(_rare(layout, rarity))
    if layout.channels > MAX_CHANNELS and not layout.planar:
        raise NotAccepted(_rare(layout, f"{layout.channels} channels; the limit is {MAX_CHANNELS}"))
    if layout.predicted and layout.bits not in (8, 16):
        raise NotAccepted(_rare(layout, f"differences of samples of {layout.bits} bits"))
    if layout.photometric == PALETTE and layout.bits > 8:
        raise NotAccepted(_rare(layout, f"a palette for {layout.bits} bits"))
    if layout.photometric in LAB and (layout.bits not in (8, 16) or (layout.photometric, layout.bits) == (ICCLAB, 16)):
        raise NotAccepted(_rare(layout, f"Lab colour (262 = {layout.photometric}) of {layout.bits} bits"))


def _rare(layout: Layout, what: str) -> str:
    return f"a TIFF of this rare kind is not accepted ({what}); save it as RGB or grey of 8 or 16 bits, or as PNG"


def read(layout: Layout) -> tuple[Samples, Image.Image]:
    """Return the samples, not turned, and the file for Pillow: one picture, without unused fields.

    Raises:
        NotAccepted: no decoder knows the kind.
        Exception: the file is broken.
    """
    if is_unpacked_here(layout):
        _check_whole(layout)
        stored = tiff_ycbcr.blocks(layout) if layout.photometric == YCBCR else layout
        file = _rows_of_bytes(stored, 0)
        pixels = _unpacked(stored, file)
        if layout.photometric == YCBCR:
            pixels = tiff_ycbcr.in_rgb(layout, pixels)
        return _meaning(layout, pixels), _opened(file)
    file = _file(layout, made={tags.ORIENTATION: (1,)})  # or Pillow would turn it
    try:
        image = _opened(file)
    except UnidentifiedImageError as error:
        raise NotAccepted(_rare(layout, f"compression {layout.compression}, {layout.channels} channels")) from error
    try:
        image.load()
        return of_image(image), image
    except Exception:
        if not _is_for_libvips(layout):
            raise
    return _meaning(layout, _by_libvips(layout)), image


def _check_whole(layout: Layout) -> None:
    """Refuse a picture without all of its strips or tiles, which Pillow leaves black where nothing is compressed.

    Raises:
        Damaged: some are missing.
    """
    directory, tiled = layout.directory, layout.tile_width is not None
    rows = directory.number(tags.TILE_HEIGHT if tiled else tags.ROWS_PER_STRIP, 0) or layout.height
    across = -(-layout.width // (layout.tile_width or layout.width))
    needed = -(-layout.height // rows) * across * (layout.channels if layout.planar else 1)
    found = len(directory.numbers(tags.TILE_OFFSETS if tiled else tags.STRIP_OFFSETS))
    if found < needed:
        raise Damaged(f"the TIFF file is truncated or corrupt: it has {found} of {needed} strips or tiles")


def _opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file), formats=("TIFF",))


def _file(
    layout: Layout, *, made: Mapping[int, Sequence[int]] = MappingProxyType({}), dropped: Collection[int] = ()
) -> bytes:
    """Return the file with the needed fields of one picture; some are left out, and others replaced."""
    kept = (tags.STRUCTURE | tags.DESCRIPTION).difference(dropped)
    if not layout.directory.number(tags.ROWS_PER_STRIP, 0):
        kept -= {tags.ROWS_PER_STRIP}  # decoders fail on 0, by which some writers mean all rows
    return layout.directory.file.with_directory(layout.directory, kept, made)


def _is_for_libvips(layout: Layout) -> bool:
    return layout.compression not in (*tags.JPEGS, *tags.CCITT) and layout.photometric in (1, RGB, YCBCR)


def _by_libvips(layout: Layout) -> Pixels:
    file = _file(layout, dropped={tags.EXTRA_SAMPLES})  # alpha is handled here
    image = pyvips.Image.tiffload_buffer(file, fail_on="error")
    channels = 4 if layout.photometric == YCBCR else layout.channels  # libtiff makes RGBA of it
    if image.format != "uchar" or image.bands not in (channels, layout.channels):
        raise NotAccepted(_rare(layout, f"{image.bands} channels of the kind {image.format}"))
    pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands).copy()  # writable
    return pixels


def _meaning(layout: Layout, pixels: Pixels) -> Samples:
    """Return the samples (H, W, C) of colour, and of alpha if the layout has any, as the fields describe them."""
    colour_channels, grey = layout.colour_channels, layout.photometric in GREY
    colour, alpha = pixels[..., :colour_channels], None
    if layout.photometric == PALETTE:
        colour = _palette(layout)[colour[..., 0]]
    if layout.alpha is not None:
        alpha = pixels[..., -1 if pixels.shape[-1] == colour_channels + 1 else layout.alpha]
        if layout.multiplied:
            divide_by_alpha(colour, alpha)
    if layout.photometric == MIN_IS_WHITE:
        numpy.subtract(max_level(colour), colour, out=colour)
    if grey:
        colour = colour.repeat(3, axis=-1)
    converted = layout.photometric in (SEPARATED, *LAB)
    if layout.photometric == SEPARATED:
        colour = in_srgb(colour, layout.directory.raw(tags.ICC_PROFILE))
    elif layout.photometric in LAB:
        colour = lab_in_srgb(colour, signed=layout.photometric == CIELAB)
    return Samples(colour=colour, alpha=alpha, grey=grey, converted=converted)


def _palette(layout: Layout) -> Pixels:
    """Return the colours (256, 3) of a palette. If none is above 255 they are of 8 bits, not black.

    Raises:
        Damaged: some are missing.
    """
    colours = 2**layout.bits
    numbers = layout.directory.numbers(tags.COLOUR_MAP, 3 * colours)
    if len(numbers) < 3 * colours:
        raise Damaged(f"the TIFF file is corrupt: its palette has {len(numbers) // 3} colours of {colours}")
    levels = numpy.array(numbers, numpy.uint32).reshape(3, colours).T
    if levels.max() > 255:
        levels >>= 8
    palette: Pixels = numpy.zeros((256, 3), numpy.uint8)
    palette[_stretched(numpy.arange(colours, dtype=numpy.uint16), layout.bits)] = levels
    return palette


def _unpacked(layout: Layout, first: bytes) -> Pixels:
    """Return the channels (H, W, C) with a meaning: colour, and then alpha if the planes are separate.

    Args:
        first: `_rows_of_bytes` of the first plane.
    """
    if not layout.planar:
        return _cut(layout, _opened(first), layout.channels)
    numbers = [*range(layout.colour_channels), *([] if layout.alpha is None else [layout.alpha])]
    pixels = numpy.empty((layout.height, layout.width, len(numbers)), _depth(layout))
    for place, number in enumerate(numbers):
        image = _opened(_rows_of_bytes(layout, number) if number else first)
        pixels[..., place : place + 1] = _cut(layout, image, 1)
    return pixels


def _depth(layout: Layout) -> type[numpy.uint8 | numpy.uint16]:
    return numpy.uint8 if layout.bits <= 8 else numpy.uint16


def _segment(layout: Layout, channels: int) -> tuple[int, int, int]:
    """Return samples and bytes of a row of a strip or tile, and the number of strips or tiles side by side."""
    across = 1 if layout.tile_width is None else -(-layout.width // layout.tile_width)
    in_row = (layout.tile_width or layout.width) * channels
    return in_row, -(-in_row * layout.bits // 8), across


def _rows_of_bytes(layout: Layout, plane: int) -> bytes:
    """Return the file with the strips or tiles of a plane as a grey picture of bytes."""
    directory = layout.directory
    _, segment_bytes, across = _segment(layout, 1 if layout.planar else layout.channels)
    made: dict[int, tuple[int, ...]] = {
        tags.WIDTH: (across * segment_bytes,),
        tags.HEIGHT: (layout.height,),
        tags.BITS: (8,),
        tags.PHOTOMETRIC: (tags.MIN_IS_BLACK,),
        tags.CHANNELS: (1,),
        tags.PLANAR: (1,),
        tags.ORIENTATION: (1,),
    }
    if layout.photometric == YCBCR:
        made |= tiff_ycbcr.rows_of_blocks(directory)
    if layout.tile_width is not None:
        made[tags.TILE_WIDTH] = (segment_bytes,)
    if layout.planar:
        for tag in (tags.STRIP_OFFSETS, tags.STRIP_SIZES, tags.TILE_OFFSETS, tags.TILE_SIZES):
            if numbers := directory.numbers(tag):
                each = len(numbers) // layout.channels
                made[tag] = numbers[plane * each : (plane + 1) * each]
    return _file(layout, made=made, dropped=ROW_FIELDS)


def _cut(layout: Layout, image: Image.Image, channels: int) -> Pixels:
    """Return samples (H, W, channels) of 8 or 16 bits, stretched from fewer."""
    image.load()
    samples = numpy.empty((layout.height, layout.width, channels), _depth(layout))
    for rows, stored in _slices(layout, image, channels):
        samples[rows] = _stretched(stored, layout.bits)[:, : layout.width]
    return samples


def _slices(layout: Layout, image: Image.Image, channels: int) -> Iterator[tuple[slice, Pixels]]:
    """Yield some rows (rows, at least W, channels) at a time, as stored, with differences added up."""
    in_row, segment_bytes, _ = _segment(layout, channels)
    order = layout.directory.file.order
    for top in range(0, layout.height, SLICE_ROWS):
        bottom = min(top + SLICE_ROWS, layout.height)
        rows = numpy.asarray(image.crop((0, top, image.width, bottom))).reshape(-1, segment_bytes)
        stored: Pixels = rows
        if layout.bits == 16:
            stored = rows.view(order + "u2").astype(numpy.uint16)
        elif layout.bits != 8:
            stored = _of_bits(rows, layout.bits)[:, :in_row]
        stored = stored.reshape(len(stored), -1, channels)
        if layout.predicted:
            stored = stored.cumsum(axis=1, dtype=stored.dtype)
        yield slice(top, bottom), stored.reshape(bottom - top, -1, channels)


def _of_bits(rows: NDArray[numpy.uint8], bits: int) -> NDArray[numpy.uint16]:
    """Unpack samples of any depth from the bits of each row, in either byte order."""
    singly = numpy.unpackbits(rows, axis=1)
    whole = singly[:, : singly.shape[1] // bits * bits].reshape(len(rows), -1, bits)
    samples = numpy.zeros(whole.shape[:2], numpy.uint16)
    for bit in range(bits):
        samples = samples << 1 | whole[..., bit]
    return samples


def _stretched(samples: Pixels, bits: int) -> Pixels:
    """Convert levels of `bits` bits to 8 or 16, so that white stays white."""
    if bits in (8, 16):
        return samples
    whole, kind = (255, numpy.uint8) if bits < 8 else (65535, numpy.uint16)
    most_level = 2**bits - 1
    levels: Pixels = ((samples.astype(numpy.uint32) * whole + most_level // 2) // most_level).astype(kind)
    return levels
