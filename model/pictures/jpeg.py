"""JPEG: its markers, read without decoding, and its pixels, which are refused where some are missing."""

import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyvips
import simplejpeg
from PIL import Image

from model.pictures.colour import of_image
from model.pictures.errors import Damaged, NotAccepted, OverLimit
from model.pictures.samples import Pixels, Samples, of_channels

MAX_SCANS = 50
"""A progressive JPEG has 3 to 12. Each one costs a pass over the whole picture, however few bytes it has."""

MAX_SEGMENTS = 20_000
"""Maximum segments in a file: real ones have up to some hundreds."""

MAX_EXIF_PARTS = 100
"""Maximum segments of EXIF in front of the pixels: Pillow copies all of it for each. One is usual."""

MAX_TABLE_BYTES = 2**16
"""Maximum bytes of quantization tables in front of the pixels: Pillow copies the rest of a segment for each of them."""

MAX_FRAME_BYTES = 6 + 3 * 4
"""Size of a frame of four channels, the most that are read."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
READABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Markers of a frame: sequential and progressive, with Huffman's or arithmetic codes."""

SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1, 0xC9})

START, END, SCAN, ALONE = 0xD8, 0xD9, 0xDA, 0x01
"""Markers SOI, EOI, SOS and TEM; only SOS has a segment."""

JFIF, EXIF, PROFILE, ADOBE, QUANTIZATION, RESTARTS = 0xE0, 0xE1, 0xE2, 0xEE, 0xDB, 0xDD
EXIF_NAME = b"Exif\0\0"
TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
"""Markers of Huffman and arithmetic codes, quantization tables and restart intervals."""

KEPT = FRAMES | TABLES | {SCAN, JFIF, ADOBE}
"""Markers of the segments that decide about pixels."""

BEHIND_PIXELS = TABLES | {START, END, SCAN, 0xDC, 0xFE} | frozenset(range(0xE0, 0xF0))
"""Markers that may follow a scan: those of a further scan, height, comment and metadata, and the end."""

READ = KEPT | {EXIF, PROFILE}
"""Markers of the segments in front of the pixels that are read."""

MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""In entropy-coded data, each 0xFF is followed by a 0 or is part of a restart marker."""

RESTART = re.compile(rb"\xff[\xd0-\xd7]")

MISSING_PIXELS = re.compile(
    r"(premature end of data|instead of RST|before marker 0xd[0-7]|bad Huffman code|bad arithmetic code)",
    re.IGNORECASE,
)
"""Matches warnings of libjpeg about missing pixels; its other warnings are about metadata."""
SKIPPED_BYTES = "extraneous bytes before marker"
"""The warning about padding behind a scan, and the first one where a restart marker is missing."""


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """A marker of the first picture, and the segment that follows it."""

    marker: int
    place: int
    """Offset of the marker."""
    begins: int
    """Offset of the content."""
    end: int


def _segments(file: bytes) -> Iterator[_Segment]:
    """Return the segments of the first picture up to its end; data after it is ignored.

    Raises:
        OverLimit: more than `MAX_SEGMENTS`.
        Damaged: among the pixels is a marker that means nothing there.
    """
    place, number, scanned = 2, 0, False
    while found := MARKER.search(file, place):
        if (number := number + 1) > MAX_SEGMENTS:
            raise OverLimit(f"the JPEG has more than {MAX_SEGMENTS} segments, which is the limit; save it again")
        marker, begins = found[1][0], found.end()
        if scanned and marker not in BEHIND_PIXELS:
            text = f"some of its pixels are missing (marker 0x{marker:02x} at byte {found.start()})"
            raise Damaged(f"the JPEG file is truncated or corrupt: {text}")
        if marker == END or (marker == START and scanned):
            break
        if marker in (START, ALONE):
            place = begins
            continue
        place = begins + max(2, int.from_bytes(file[begins : begins + 2]))
        scanned = scanned or marker == SCAN
        yield _Segment(marker=marker, place=found.start(), begins=begins + 2, end=place)
    end = found.start() if found else len(file)
    yield _Segment(marker=END, place=end, begins=end, end=end)


def check_header(file: bytes) -> None:
    """Refuse the kinds of JPEG that hardly any decoder reads, and headers that cost too much.

    Raises:
        NotAccepted: it is such a kind.
        OverLimit: more than `MAX_EXIF_PARTS` or `MAX_TABLE_BYTES`.
        Damaged: no header is found where one should be.
    """
    before_pixels = [*itertools.takewhile(lambda segment: segment.marker != SCAN, _segments(file))]
    parts = sum(_is_exif(file, segment) for segment in before_pixels)
    if parts > MAX_EXIF_PARTS:
        raise OverLimit(f"the JPEG has EXIF in {parts} parts; the limit is {MAX_EXIF_PARTS}; save it without")
    tables = sum(segment.end - segment.begins for segment in before_pixels if segment.marker == QUANTIZATION)
    if tables > MAX_TABLE_BYTES:
        raise OverLimit(f"the JPEG has {tables} bytes of tables; the limit is {MAX_TABLE_BYTES}; save it again")
    _check_order(file)


def _check_order(file: bytes) -> None:
    """Refuse a file without a single frame and a scan behind it."""
    frames, expected = 0, 2
    for segment in _segments(file):
        if segment.marker == END:
            break
        if segment.marker == SCAN and frames:
            return
        if segment.marker in FRAMES:
            frames += 1
            _check_frame(segment.marker, file[segment.begins : segment.begins + 3])
            if frames > 1 or segment.end - segment.begins > MAX_FRAME_BYTES:
                raise Damaged(f"the JPEG file is corrupt: its frame at byte {segment.place} is the second, or too long")
        expected = segment.end
    missing = "scan" if frames else "frame"
    raise Damaged(f"the header of the JPEG file is truncated or corrupt: there is no {missing} behind byte {expected}")


def without_unread(file: bytes, *, exif: bool = True) -> bytes:
    """Return a checked file without what nothing reads in front of its pixels: Pillow parses segments and filler.

    Args:
        exif: keep EXIF.
    """
    parts = [b"\xff\xd8"]
    for segment in _segments(file):
        if segment.marker == SCAN:
            return b"".join((*parts, file[segment.place :]))
        if segment.marker in READ and (exif or not _is_exif(file, segment)):
            parts.append(file[segment.place : segment.end])
    return file


def _is_exif(file: bytes, segment: _Segment) -> bool:
    return segment.marker == EXIF and file.startswith(EXIF_NAME, segment.begins)


def opened(file: bytes) -> Image.Image:
    """Open a checked file with Pillow, which fails where EXIF has a resolution of a wrong type.

    Raises:
        Exception: it fails for another reason.
    """
    try:
        return Image.open(io.BytesIO(file), formats=("JPEG",))
    except Exception:  # it raises several kinds
        image = Image.open(io.BytesIO(without_unread(file, exif=False)), formats=("JPEG",))
        parts = (file[segment.begins : segment.end] for segment in _segments(file) if _is_exif(file, segment))
        image.info["exif"] = EXIF_NAME + b"".join(part.removeprefix(EXIF_NAME) for part in parts)
        return image


def _check_frame(marker: int, header: bytes) -> None:
    if marker not in READABLE_FRAMES:
        raise NotAccepted("a lossless or hierarchical JPEG is not accepted; save it as an ordinary one")
    if len(header) < 3:
        return  # a decoder says where it ends
    if header[0] != 8:
        raise NotAccepted(f"a JPEG of {header[0]} bits is not accepted; save it with 8, or as PNG")
    if header[1:] == b"\0\0":
        raise NotAccepted("a JPEG that tells its height only behind its pixels (DNL) is not accepted; save it again")


def check_scans(file: bytes) -> None:
    """Refuse a JPEG that would be decoded over and over.

    Raises:
        OverLimit: more than `MAX_SCANS`.
    """
    scans = sum(segment.marker == SCAN for segment in _segments(file))
    if scans > MAX_SCANS:
        raise OverLimit(f"the JPEG has {scans} scans; the limit is {MAX_SCANS}; save it as a baseline JPEG")


def _only_pixels(file: bytes) -> bytes:
    """Return the first picture without causes of harmless warnings: libjpeg reports only one warning.

    Raises:
        Damaged: it ends within a segment.
    """
    segments = list(_segments(file))
    frame = next(segment for segment in segments if segment.marker in FRAMES)
    components = file[frame.begins + 5 : frame.begins + 6]
    parts, pixels_begin = [b"\xff\xd8"], len(file)
    for segment in segments:
        parts.append(file[pixels_begin : segment.place])
        pixels_begin = segment.end if segment.marker == SCAN else len(file)
        if segment.marker in KEPT:
            if segment.end > len(file):
                raise Damaged(f"the JPEG file is truncated: it ends at byte {len(file)}, within a segment")
            content = file[segment.begins : segment.end]
            sequential = frame.marker in SEQUENTIAL_FRAMES
            parts.append(file[segment.place : segment.begins])
            parts.append(_as_understood(segment.marker, content, components, sequential=sequential))
    return b"".join((*parts, b"\xff\xd9"))


def _as_understood(marker: int, content: bytes, components: bytes, *, sequential: bool) -> bytes:
    """Replace values that libjpeg warns about by those that it assumes instead."""
    if marker == SCAN and sequential:
        return content[:-3] + b"\0\x3f\0"
    if marker == JFIF and content.startswith(b"JFIF\0"):
        return content[:5] + b"\1" + content[6:]
    if marker == ADOBE and content.startswith(b"Adobe") and content[11:12] not in (b"", b"\0"):
        return content[:11] + (b"\2" if components == b"\4" else b"\1") + content[12:]
    return content


def samples_of(file: bytes, image: Image.Image) -> Samples:
    """Decode the first picture of a JPEG.

    Pillow hides the warnings of libjpeg. So TurboJPEG decodes, which gives the same pixels; it only checks CMYK, which
    Pillow decodes.

    Args:
        image: the file, opened by Pillow.

    Raises:
        Damaged: some pixels are missing.
        Exception: the file is broken otherwise.
    """
    pixels = _decoded(_only_pixels(file))
    shape = (image.height, image.width, {"L": 1, "RGB": 3}.get(image.mode))
    if pixels is not None and pixels.shape == shape:
        return of_channels(pixels)
    image.load()
    return of_image(image)


def _decoded(file: bytes) -> Pixels | None:
    """Return the samples (H, W, C) of a file without metadata; None if only Pillow may be able to read it."""
    try:
        kind = simplejpeg.decode_jpeg_header(file)[2]
    except (ValueError, KeyError):  # TurboJPEG does not know its kind, or simplejpeg no name for it
        return _of_unusual_sampling(file)
    colours = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(kind, "RGB")
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(file, colours)
    except ValueError as error:
        found = MISSING_PIXELS.search(str(error))
        if found or (SKIPPED_BYTES in str(error) and _lacks_restarts(file)):
            reason = found[1] if found else "restart markers"
            text = f"the JPEG file is truncated or corrupt: some of its pixels are missing ({reason})"
            raise Damaged(text) from error
        pixels = simplejpeg.decode_jpeg(file, colours, strict=False)
    return pixels


def _lacks_restarts(file: bytes) -> bool:
    """Return True if a scan of a file without metadata has fewer restart markers than its size needs."""
    interval, frame, segments = 0, b"", [*_segments(file)]
    for segment, following in itertools.pairwise(segments):
        content = file[segment.begins : segment.end]
        if segment.marker in FRAMES:
            frame = content
        elif segment.marker == RESTARTS:
            interval = int.from_bytes(content[:2])
        elif segment.marker == SCAN and interval:
            needed = (_mcus(frame, content) - 1) // interval
            if sum(1 for _ in RESTART.finditer(file, segment.end, following.place)) < needed:
                return True
    return False


def _mcus(frame: bytes, scan: bytes) -> int:
    """Return the number of MCUs in a scan, between which it may have restart markers."""
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    sampling = {frame[at]: (frame[at + 1] >> 4, frame[at + 1] & 15) for at in range(6, 6 + 3 * frame[5], 3)}
    across, down = max(share for share, _ in sampling.values()), max(share for _, share in sampling.values())
    if scan[0] == 1:
        own_across, own_down = sampling[scan[1]]
        width, height = -(-width * own_across // across), -(-height * own_down // down)
        across = down = 1
    return -(-width // (8 * across)) * -(-height // (8 * down))


def _of_unusual_sampling(file: bytes) -> Pixels | None:
    """Decode a subsampling that TurboJPEG does not know, such as 4:1:0. Misses warnings about the last 8 rows."""
    try:
        image = pyvips.Image.jpegload_buffer(file, access="sequential", fail_on="warning")
    except pyvips.Error:
        return None
    try:
        pixels: Pixels = image.numpy()
    except pyvips.Error as error:
        raise Damaged("the JPEG file is truncated or corrupt: some of its pixels are missing") from error
    return pixels.reshape(image.height, image.width, image.bands)
