"""The fields of a TIFF that decide what its samples mean, read in one place before any decoder is chosen."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from model.pictures import orientation
from model.pictures.errors import Damaged, NotAccepted, OverLimit
from model.pictures.limits import Limits
from model.pictures.samples import NO_RANGE, UPRIGHT
from model.pictures.tiff_directory import SIGNED, SUB_DIRECTORIES, Directory, Field, TiffFile

NEW_SUBFILE_TYPE, SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, CHANNELS, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 317, 320, 322, 323, 324, 325
YCBCR_COEFFICIENTS, YCBCR_SHARED, YCBCR_RANGE = 529, 530, 532
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, ICC_PROFILE, DNG_VERSION = 332, 338, 339, 700, 34675, 50706

STRUCTURE = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339}
    | {347, *range(512, 522), 529, 530, 531, 532}
)
"""Fields that say how pixels are stored."""

EXIF, GPS = 34665, 34853
DESCRIPTION = frozenset(
    {269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, XMP, 33432, EXIF, ICC_PROFILE, GPS, *range(40091, 40096)}
)
"""Fields that describe the picture. No decoder sees others, so they cost nothing."""

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOUR_CHANNELS = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
GREY = (MIN_IS_WHITE, MIN_IS_BLACK)
LAB = (CIELAB, ICCLAB)

RAW_PHOTOMETRICS = {32803: "a mosaic of colour filters", 34892: "linear raw"}
RAW_COMPRESSIONS = frozenset({32767, 32769, 32770, 34713, 65000, 65535})
"""Codecs of Sony, Epson, Samsung, Nikon, Kodak and Pentax, used for camera raw only."""

RAW_SIGNATURE = re.compile(rb"CR\x02|IIII.waR|MMMMRaw", re.DOTALL)
"""Signatures of Canon and Phase One, behind the header of the TIFF."""

OTHER_PHOTOMETRICS = {
    4: "a transparency mask",
    10: "ITU L*a*b* colour",
    32844: "LogL luminance",
    32845: "LogLuv colour",
    51177: "a depth map",
    52527: "a semantic mask",
}

UNCOMPRESSED = 1
CCITT = (2, 3, 4)
JPEGS = (6, 7)
PREDICTING = (5, 8, 32946, 34925, 50000)
"""Compressions that may keep differences."""

MULTIPLIED_ALPHA, ALPHA, ALPHA_OF_COREL = 1, 2, 999
"""Kinds of extra samples; others are not alpha."""

MAX_STRIPS = 2**16
"""Maximum strips or tiles of a picture; each costs Pillow time. Strips of a row reach it with 16,384 rows, 4 planes."""

MAX_NAMED = 8
"""Maximum channels whose bits an error names."""

REDUCED, MASK = 1, 4
"""Bits of the subfile type."""
OLD_REDUCED = 2


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of the samples of one picture, and their meaning."""

    directory: Directory
    frames: int
    """Pictures in the file, without copies in a lower resolution and masks."""
    width: int
    height: int
    bits: int
    """Bits of a sample, 1 to 16."""
    channels: int
    photometric: int
    extra: tuple[int, ...]
    """Kinds of the channels after the colour."""
    compression: int
    planar: bool
    """Each channel has its own plane."""
    predicted: bool
    """Samples are kept as differences from the sample to the left."""
    tile_width: int | None
    """None if the picture is kept in strips."""
    orientation: int

    @property
    def colour_channels(self) -> int:
        """Channels of colour, which come first."""
        return COLOUR_CHANNELS[self.photometric]

    @property
    def alpha(self) -> int | None:
        """Index of the alpha channel; None if no field names one."""
        for number, kind in enumerate(self.extra, self.colour_channels):
            if kind in (MULTIPLIED_ALPHA, ALPHA, ALPHA_OF_COREL):
                return number
        return None

    @property
    def multiplied(self) -> bool:
        """The colour was multiplied by alpha."""
        return self.alpha is not None and self.extra[self.alpha - self.colour_channels] == MULTIPLIED_ALPHA


def layout_of(file: TiffFile, limits: Limits) -> Layout:
    """Read the layout of the first picture of a TIFF that is no copy in a lower resolution.

    Raises:
        NotAccepted: its samples are of a kind that is not read.
        OverLimit: more than the limits allow.
        Damaged: its fields contradict each other, or point outside the file.
    """
    _refuse_camera_raw(file)
    directory, frames = _picture_and_number(file, limits)
    _check_fields(directory, limits)
    channels = directory.number(CHANNELS, 1)
    compression = directory.number(COMPRESSION, 1)
    photometric = directory.number(PHOTOMETRIC, _usual_photometric(channels, compression))
    _check_photometric(photometric, directory)
    extra_channels = channels - COLOUR_CHANNELS[photometric]
    if extra_channels < 0 and not (photometric == YCBCR and channels == 1):
        raise Damaged(f"the TIFF file is corrupt: its colour (262 = {photometric}) does not fit in {channels} channels")
    said = directory.numbers(EXTRA_SAMPLES, max(1, extra_channels))
    if not said and extra_channels == 1:
        said = (ALPHA,)  # writers that leave the field out mean alpha
    layout = Layout(
        directory=directory,
        frames=frames,
        width=directory.number(WIDTH, 0),
        height=directory.number(HEIGHT, 0),
        bits=_bits(directory, channels),
        channels=channels,
        photometric=photometric,
        extra=said[: max(0, extra_channels)],
        compression=compression,
        planar=directory.number(PLANAR, 1) == 2 and channels > 1,
        predicted=directory.number(PREDICTOR, 1) == 2 and compression in PREDICTING,
        tile_width=directory.number(TILE_WIDTH, 0) or None,
        orientation=_orientation(directory),
    )
    _check_size(layout, limits)
    return layout


def _refuse_camera_raw(file: TiffFile) -> None:
    """Refuse camera raw: its first picture is a preview, and its pixels need a raw converter."""
    if RAW_SIGNATURE.match(file.content[8:16]):
        raise _camera_raw("by its signature")
    if any(DNG_VERSION in directory.fields for directory in file.directories):
        raise _camera_raw("a DNG")


def _camera_raw(sign: str) -> NotAccepted:
    return NotAccepted(
        f"a camera raw file ({sign}) is not accepted; develop it and send the result as TIFF, PNG or JPEG"
    )


def _picture_and_number(file: TiffFile, limits: Limits) -> tuple[Directory, int]:
    """Return the first picture that is not a copy in a lower resolution, and the number of such pictures."""
    pictures = []
    for directory in file.directories:
        if not _is_secondary(directory):
            pictures.append(directory)
            limits.check_frames(len(pictures))
    picture = pictures[0] if pictures else file.directories[0]
    if _is_raw(picture):
        raise _camera_raw(_kind(picture))
    for inner in file.inside(picture):
        if _is_raw(inner) and (not pictures or _px(inner) > _px(picture)):
            raise _camera_raw(f"{_kind(inner)}, of which the first picture is a preview")
        if not pictures and not _is_secondary(inner):
            raise NotAccepted(
                "a TIFF whose first picture is a small copy of one that hangs below it (field 330) is not accepted; "
                "save the large one alone"
            )
    return picture, max(1, len(pictures))


def _is_raw(directory: Directory) -> bool:
    return directory.number(PHOTOMETRIC, -1) in RAW_PHOTOMETRICS or directory.number(COMPRESSION, 1) in RAW_COMPRESSIONS


def _kind(raw: Directory) -> str:
    return RAW_PHOTOMETRICS.get(raw.number(PHOTOMETRIC, -1), f"compression {raw.number(COMPRESSION, 1)}")


def _px(directory: Directory) -> int:
    return directory.number(WIDTH, 0) * directory.number(HEIGHT, 0)


def _is_secondary(directory: Directory) -> bool:
    """Return True for a copy in a lower resolution, or a mask."""
    kind = directory.number(NEW_SUBFILE_TYPE, 0)
    return bool(kind & (REDUCED | MASK)) or directory.number(SUBFILE_TYPE, 0) == OLD_REDUCED


def _check_fields(directory: Directory, limits: Limits) -> None:
    for tag, field in directory.fields.items():
        if tag in STRUCTURE | DESCRIPTION | {SUB_DIRECTORIES}:
            limits.check_metadata(f"the TIFF's field {tag}", field.size_bytes)
        if tag in STRUCTURE and field.kind in SIGNED:  # only decoders would read them
            raise NotAccepted(f"a TIFF with signed numbers in field {tag} is not accepted; save it again")
        if tag in (STRIP_OFFSETS, TILE_OFFSETS) and field.count > MAX_STRIPS:
            raise OverLimit(
                f"the TIFF has {field.count} strips or tiles; the limit is {MAX_STRIPS}; save it with larger ones"
            )
    for tag in (EXIF, GPS):
        if place := directory.number(tag, 0):
            with_values = _inner_fields(directory.file, place)
            limits.check_metadata(f"the TIFF's field {tag}", sum(field.size_bytes for field in with_values))


def _inner_fields(file: TiffFile, place: int) -> Iterator[Field]:
    try:
        yield from file.directory_at(place).fields.values()
    except Damaged:
        return  # its reader drops it


def _usual_photometric(channels: int, compression: int) -> int:
    """Return the photometric interpretation of a file that names none."""
    if channels < 3:
        return MIN_IS_WHITE if compression in CCITT else MIN_IS_BLACK
    return RGB


def _check_photometric(photometric: int, directory: Directory) -> None:
    if photometric in OTHER_PHOTOMETRICS:
        name = OTHER_PHOTOMETRICS[photometric]
        raise NotAccepted(f"a TIFF that holds {name} (262 = {photometric}) is not accepted; save it as RGB or grey")
    if photometric not in COLOUR_CHANNELS:
        raise NotAccepted(f"a TIFF of photometric interpretation {photometric} is not accepted; save it as RGB or grey")
    if photometric == SEPARATED and directory.number(INK_SET, 1) != 1:
        raise NotAccepted("a TIFF of other inks than CMYK (332 = 2) is not accepted; save it as RGB or CMYK")


def _bits(directory: Directory, channels: int) -> int:
    formats = set(directory.numbers(SAMPLE_FORMAT, channels)) - {1, 4}
    said = directory.numbers(BITS, channels)
    depths = set(said) or {1}
    if formats or max(depths) > 16:
        raise NotAccepted(f"{NO_RANGE} (a TIFF of {max(depths)} bits, sample format {min(formats, default=1)})")
    if len(depths) > 1 or not min(depths):
        some = ", ".join(map(str, said[:MAX_NAMED])) + (", ..." if len(said) > MAX_NAMED else "")
        raise NotAccepted(
            f"a TIFF of this rare kind is not accepted: its channels have {some} bits; save it with 8 or 16"
        )
    return depths.pop()


def _orientation(directory: Directory) -> int:
    said = directory.number(ORIENTATION, 0)
    if ORIENTATION not in directory.fields:
        with suppress(Damaged):  # which costs nothing but the XMP
            said = orientation.in_xmp(directory.raw(XMP))
    return said if 1 <= said <= 8 else UPRIGHT


def _check_size(layout: Layout, limits: Limits) -> None:
    if not layout.width or not layout.height:
        raise Damaged(f"the TIFF file is corrupt: it says that it has {layout.width} x {layout.height} px")
    limits.check_size(layout.width, layout.height, len(layout.directory.file.content))
    decoded_px = layout.width * layout.height
    if layout.tile_width is not None:
        tile = layout.tile_width, layout.directory.number(TILE_HEIGHT, 0) or layout.height
        decoded_px = -(-layout.width // tile[0]) * tile[0] * -(-layout.height // tile[1]) * tile[1]
        if tile[0] * tile[1] > limits.max_picture_px or decoded_px > 2 * limits.max_picture_px:
            raise OverLimit(
                f"the TIFF has tiles of {tile[0]} x {tile[1]} px; the limit is {limits.max_picture_px} px in a tile, "
                "and twice that in all tiles; save it with smaller tiles"
            )
    if layout.compression != UNCOMPRESSED:
        _check_packed(layout, decoded_px * layout.channels * -(-layout.bits // 8))


def _check_packed(layout: Layout, decoded_bytes: int) -> None:
    """Refuse strips or tiles whose sizes add up to far more than the file.

    Decoders would read its bytes again and again.
    """
    file_bytes = len(layout.directory.file.content)
    packed_bytes = sum(layout.directory.total(tag, most_each=file_bytes) for tag in (STRIP_SIZES, TILE_SIZES))
    limit_bytes = 2 * file_bytes + decoded_bytes
    if packed_bytes > limit_bytes:
        raise OverLimit(
            f"the TIFF's strips or tiles have {packed_bytes} bytes, in a file of {file_bytes}; "
            f"the limit is {limit_bytes} bytes; save it again"
        )
