"""Frames of APNG and GIF as they are shown, by the PNG specification and as browsers show a GIF.

The files are written by hand, because each library disposes of frames in its own way.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy
import pytest

from model.pictures.animation import read_frames
from model.pictures.errors import Damaged, OverLimit
from model.pictures.gif import gif_header, plays_of
from model.pictures.limits import Limits
from model.pictures.reading import read, read_header
from tests.model.pictures.files import chunk

LIMITS = Limits(max_picture_px=1000, max_width_px=1000, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000)
Colour = tuple[int, ...]
RED, GREEN, BLUE, WHITE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (255, 255, 255, 255)
HALF_RED, TRANSPARENT = (255, 0, 0, 128), (0, 0, 0, 0)
KEEP, CLEAR, RESTORE = 0, 1, 2
"""Values of APNG for the disposal of a frame."""

PALETTE = b"".join(bytes(colour[:3]) for colour in (RED, GREEN, BLUE, WHITE))


@dataclass(frozen=True)
class Part:
    """A frame of one row as it is stored: samples of an APNG, or numbers of colours of a GIF."""

    row: Sequence[int]
    left: int = 0
    disposal: int = KEEP
    blend: bool = False
    clear: int | None = None
    """Index of the transparent colour of a GIF."""
    palette: bytes = b""
    """A GIF's own four colours for this frame."""


def rgba(*pixels: Colour, left: int = 0, disposal: int = KEEP, blend: bool = False) -> Part:
    return Part([sample for pixel in pixels for sample in pixel], left, disposal, blend)


def apng(width: int, parts: Sequence[Part], *, kind: int = 6, bits: int = 8, between: bytes = b"") -> bytes:
    """Make an APNG of one row, of a colour type and bits of a sample."""
    samples = {0: 1, 2: 3, 3: 1, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"acTL", struct.pack(">II", len(parts), 3))
    sequence = 0
    for part in parts:
        across = len(part.row) * 8 // (samples * bits)
        place = struct.pack(">IIIII", sequence, across, 1, part.left, 0)
        file += chunk(b"fcTL", place + struct.pack(">HHBB", 1, 25, part.disposal, part.blend))
        data = zlib.compress(b"\0" + bytes(part.row))
        file += chunk(b"fdAT", struct.pack(">I", sequence + 1) + data) if sequence else chunk(b"IDAT", data)
        sequence += 2 if sequence else 1
    return file + chunk(b"IEND", b"")


def gif(width: int, parts: Sequence[Part]) -> bytes:
    """Make a GIF of one row and of the colours of the palette."""
    file = b"GIF89a" + struct.pack("<HHBBB", width, 1, 0x91, 0, 0) + PALETTE
    for part in parts:
        shown = part.disposal << 2 | (part.clear is not None)
        file += b"!\xf9\4" + struct.pack("<BHBx", shown, 7, part.clear or 0)
        own = 0x81 if part.palette else 0
        file += b"," + struct.pack("<HHHHB", part.left, 0, len(part.row), 1, own) + part.palette + codes(part.row)
    return file + b";"


def codes(row: Sequence[int]) -> bytes:
    """Write the pixels of a GIF in codes of 3 bits: the table is emptied before it grows."""
    written = [code for pixel in row for code in (4, pixel)] + [5]
    value = sum(code << 3 * place for place, code in enumerate(written))
    data = value.to_bytes(-(-3 * len(written) // 8), "little")
    return bytes([2, len(data)]) + data + b"\0"


def shown(file: bytes) -> list[list[Colour]]:
    """Return the pixels of each frame; all that are clear are equal."""
    frames = []
    for frame in read_frames(file, LIMITS).frames:
        colour, alpha = frame.samples.colour[0].tolist(), frame.samples.alpha
        opacity = [255] * len(colour) if alpha is None else alpha[0].tolist()
        frames.append([(*pixel, share) if share else TRANSPARENT for pixel, share in zip(colour, opacity, strict=True)])
    return frames


def test_a_frame_is_drawn_over_clear_opaque_and_half_clear_pixels() -> None:
    below = rgba(TRANSPARENT, BLUE, (0, 0, 255, 128))
    assert shown(apng(3, [below, rgba(HALF_RED, HALF_RED, HALF_RED, blend=True)]))[1] == [
        HALF_RED,
        (128, 0, 127, 255),
        (170, 0, 85, 192),
    ]


def test_a_frame_that_is_not_drawn_over_replaces_what_was_there() -> None:
    assert shown(apng(2, [rgba(BLUE, BLUE), rgba(HALF_RED)]))[1] == [HALF_RED, BLUE]


def test_an_apng_disposes_of_frames() -> None:
    parts = [
        rgba(WHITE, WHITE, TRANSPARENT),
        rgba(RED, RED, disposal=RESTORE, blend=True),
        rgba(BLUE, left=1, disposal=CLEAR, blend=True),
        rgba(GREEN, left=2),
    ]
    assert shown(apng(3, parts)) == [
        [WHITE, WHITE, TRANSPARENT],
        [RED, RED, TRANSPARENT],
        [WHITE, BLUE, TRANSPARENT],
        [WHITE, TRANSPARENT, GREEN],
    ]


@pytest.mark.parametrize("kind", [2, 3])
def test_what_is_cleared_is_clear_without_any_transparent_colour(kind: int) -> None:
    row = {2: [0, 255, 0], 3: [1]}[kind]
    between = chunk(b"PLTE", PALETTE) if kind == 3 else b""
    parts = [Part(row * 2, disposal=CLEAR), Part(row)]
    assert shown(apng(2, parts, kind=kind, between=between))[1] == [GREEN, TRANSPARENT]


def test_the_transparent_grey_of_few_bits_is_clear_in_every_frame() -> None:
    file = apng(2, [Part([0x5A]), Part([0xA5])], kind=0, bits=4, between=chunk(b"tRNS", b"\0\5"))
    assert shown(file) == [[TRANSPARENT, (170, 170, 170, 255)], [(170, 170, 170, 255), TRANSPARENT]]


def test_a_palette_and_its_transparency_are_not_repeated_where_they_are_too_long() -> None:
    clear, palette = chunk(b"tRNS", bytes(256)), chunk(b"PLTE", PALETTE)
    assert shown(apng(1, [Part([0]), Part([1])], kind=3, between=palette + clear)) == [[TRANSPARENT], [TRANSPARENT]]
    too_long = chunk(b"tRNS", bytes(257))
    assert shown(apng(1, [Part([0]), Part([1])], kind=3, between=palette + too_long)) == [[RED], [GREEN]]
    endless = chunk(b"PLTE", PALETTE * 65)
    assert shown(apng(1, [rgba(RED), rgba(BLUE)], between=endless)) == [[RED], [BLUE]]
    with pytest.raises(Damaged, match="no chunk PLTE of 256 colours"):
        read_header(apng(1, [Part([0])], kind=3, between=endless), LIMITS)


def test_times_and_plays_of_an_apng_are_read() -> None:
    frames = read_frames(apng(1, [rgba(RED), rgba(BLUE)]), LIMITS)
    assert frames.plays == 3
    assert [frame.duration_ms for frame in frames.frames] == [40, 40]


def without_first_fctl(file: bytes) -> bytes:
    """Make the picture of an APNG one for other readers: it is no longer a frame."""
    first = file.index(b"fcTL") - 4
    still = file[:first] + file[first + 38 :]
    for number in range(1, file.count(b"fcTL") + file.count(b"fdAT")):
        for kind in (b"fcTL", b"fdAT"):
            still = still.replace(kind + number.to_bytes(4), kind + (number - 1).to_bytes(4))
    return with_checksums(still)


def first_pixels(file: bytes) -> list[Colour]:
    """Return the pixels of a file that is read as a still picture."""
    samples = read(file, LIMITS).samples
    alpha = numpy.full(samples.colour.shape[:2], 255) if samples.alpha is None else samples.alpha
    return [(*pixel, share) for pixel, share in zip(samples.colour[0].tolist(), alpha[0].tolist(), strict=True)]


@pytest.mark.parametrize("frames", [1, 2])
def test_a_picture_for_other_readers_is_not_shown(frames: int) -> None:
    file = without_first_fctl(apng(1, [rgba(RED), rgba(BLUE), rgba(GREEN)][: 1 + frames]))
    assert read_header(file, LIMITS).frames == read(file, LIMITS).frames == frames
    assert first_pixels(file) == shown(file)[0] == [BLUE]


def test_a_broken_second_frame_does_not_hide_the_first() -> None:
    file = without_first_fctl(apng(1, [rgba(RED), rgba(BLUE), rgba(GREEN)]))
    damaged = bytearray(file)
    damaged[file.rindex(b"fcTL") + 9] ^= 1
    assert first_pixels(bytes(damaged)) == [BLUE]


def test_the_first_frame_may_be_smaller_than_a_picture_for_other_readers() -> None:
    parts = [Part([*RED[:3]] * 3), Part([*BLUE[:3]], left=1)]
    file = without_first_fctl(apng(3, parts, kind=2, between=chunk(b"tEXt", b"Title\0a")))
    assert first_pixels(file) == shown(file)[0] == [TRANSPARENT, BLUE, TRANSPARENT]
    header = read_header(file, LIMITS)
    assert (header.width, header.height, header.planes) == (3, 1, 2)


def test_the_first_frame_of_16_bits_is_shown_with_its_palette_or_transparent_colour() -> None:
    deep = without_first_fctl(apng(1, [Part([0] * 6), Part([1, 2, 3, 4, 5, 6])], kind=2, bits=16))
    assert read(deep, LIMITS).samples.colour.tolist() == [[[0x102, 0x304, 0x506]]]
    between = chunk(b"PLTE", PALETTE) + chunk(b"tRNS", b"\xff\0")
    assert first_pixels(without_first_fctl(apng(2, [Part([2, 2]), Part([1, 0])], kind=3, between=between))) == [
        (*GREEN[:3], 0),
        RED,
    ]


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (b"fcTL\0\0\0\0", b"fcTL\0\0\0\1"),
        (b"fcTL\0\0\0\0\0\0\0\1", b"fcTL\0\0\0\0\0\0\0\2"),
        (b"fdAT\0\0\0\1", b"fdAT\0\0\0\0"),
        (b"fdAT", b"fdAt"),
        (b"acTL\0\0\0\2", b"acTL\0\0\0\0"),
        (b"acTL", b"acTl"),
    ],
)
def test_a_picture_for_other_readers_is_shown_where_the_animation_is_broken(found: bytes, written: bytes) -> None:
    file = without_first_fctl(apng(1, [rgba(RED), rgba(BLUE)]))
    assert first_pixels(with_checksums(file.replace(found, written))) == [RED]
    damaged = bytearray(file)
    damaged[file.index(b"fdAT") + 9] ^= 1
    assert first_pixels(bytes(damaged)) == [RED]


def test_a_png_has_frames_only_if_it_says_so_before_its_pixels() -> None:
    file = apng(1, [rgba(RED), rgba(BLUE)])
    start = file.index(b"acTL") - 4
    announced, rest = file[start : start + 20], file[start + 20 :]
    behind = file[:start] + rest[:-12] + announced + rest[-12:]
    assert [read_header(kind, LIMITS).frames for kind in (file, behind, behind.replace(announced, b""))] == [2, 1, 1]


def with_checksums(file: bytes) -> bytes:
    written, place = file[:8], 8
    while place < len(file):
        size = int.from_bytes(file[place : place + 4])
        written += chunk(file[place + 4 : place + 8], file[place + 8 : place + 8 + size])
        place += 12 + size
    return written


@pytest.mark.parametrize(
    ("found", "written", "said"),
    [
        (b"fdAT\0\0\0\2", b"fdAT\0\0\0\3", "chunk 2 of its animation is missing"),
        (b"fcTL\0\0\0\1\0\0\0\1", b"fcTL\0\0\0\1\0\0\0\2", "names a place outside of the picture"),
        (b"fcTL\0\0\0\1\0\0\0\1", b"fcTL\0\0\0\1\0\0\0\0", "names a place outside of the picture"),
    ],
)
def test_a_broken_frame_of_an_apng_is_refused_by_its_number(found: bytes, written: bytes, said: str) -> None:
    file = apng(1, [rgba(RED), rgba(BLUE)])
    with pytest.raises(Damaged, match=f"frame [12] of the PNG.*{said}"):
        shown(with_checksums(file.replace(found, written)))


def test_a_gif_disposes_of_frames_each_by_its_own_method() -> None:
    parts = [
        Part([3, 3], disposal=1),
        Part([2, 2], disposal=2, clear=3),
        Part([1, 1], disposal=0),
        Part([2], disposal=1),
    ]
    assert shown(gif(2, parts)) == [[WHITE] * 2, [BLUE] * 2, [GREEN] * 2, [BLUE, GREEN]]
    parts = [Part([3, 3], disposal=1), Part([2], disposal=3), Part([1], left=1)]
    assert shown(gif(2, parts)) == [[WHITE] * 2, [BLUE, WHITE], [WHITE, GREEN]]


def test_what_a_gif_clears_is_clear_without_any_transparent_colour() -> None:
    assert shown(gif(2, [Part([1, 1], disposal=2), Part([2])]))[1] == [BLUE, TRANSPARENT]
    assert shown(gif(2, [Part([1, 1], disposal=2), Part([2, 1], clear=1)]))[1] == [BLUE, TRANSPARENT]


@pytest.mark.parametrize("clear", [None, 0])
def test_a_palette_of_a_frame_comes_before_that_of_the_gif_even_if_its_levels_are_their_numbers(
    clear: int | None,
) -> None:
    levels = bytes(level for level in range(4) for _ in "rgb")
    frames = [Part([3, 2], palette=levels), Part([1], clear=clear, palette=levels), Part([1])]
    greys = [(3, 3, 3, 255), (2, 2, 2, 255)]
    assert shown(gif(2, frames)) == [greys, [(1, 1, 1, 255), greys[1]], [GREEN, greys[1]]]
    assert [frame.samples.grey for frame in read_frames(gif(2, [*frames, frames[1]]), LIMITS).frames] == [
        True,
        True,
        False,
        False,
    ]


def test_around_a_first_frame_that_is_smaller_than_its_gif_it_is_clear() -> None:
    file = gif(2, [Part([1]), Part([2])])
    assert shown(file) == [[GREEN, TRANSPARENT], [BLUE, TRANSPARENT]]
    alpha = read(file, LIMITS).samples.alpha
    assert alpha is not None
    assert alpha.tolist() == [[255, 0]]
    assert read_header(file, LIMITS).planes == 2


def extension(name: bytes, *parts: bytes) -> bytes:
    """Make the extension of a GIF by an application."""
    return b"!\xff\x0b" + name + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


BUFFERED, ENDLESS, THREE_MORE = b"\2\0\1\0\0", b"\1\0\0", b"\1\3\0"


@pytest.mark.parametrize("name", [b"NETSCAPE2.0", b"ANIMEXTS1.0"])
@pytest.mark.parametrize(
    ("parts", "plays"), [((ENDLESS,), 0), ((THREE_MORE,), 4), ((BUFFERED, ENDLESS), 0), ((BUFFERED,), 1), ((b"\1",), 1)]
)
def test_plays_of_a_gif_are_read_wherever_they_are(name: bytes, parts: Sequence[bytes], plays: int) -> None:
    file, loop = gif(1, [Part([1]), Part([2])]), extension(name, *parts)
    start = file.index(PALETTE) + len(PALETTE)
    for whole in (file[:start] + loop + file[start:], file[:-1] + loop + b";"):
        assert read_frames(whole, LIMITS).plays == plays
    other = extension(b"XMP DataXMP", ENDLESS)
    assert read_frames(file[:start] + other + file[start:], LIMITS).plays == 1


def test_a_gif_may_end_anywhere_before_it_is_opened() -> None:
    file = gif(1, [Part([1]), Part([2])])
    whole = file[:-1] + extension(b"NETSCAPE2.0", ENDLESS) + b";"
    for kept in range(len(whole)):
        with suppress(Damaged):
            assert gif_header(whole[:kept], LIMITS).frames <= 2
        assert plays_of(whole[:kept]) in (0, 1)


@pytest.mark.parametrize(
    "comments", [lambda blocks: b"!\xfe\0" * blocks, lambda blocks: b"!\xfe" + b"\1a" * (blocks - 1) + b"\0"]
)
def test_a_gif_of_very_many_blocks_is_refused(
    comments: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.pictures.gif.MAX_BLOCKS", 20)
    file, own = gif(1, [Part([1])]), 4
    start = file.index(PALETTE) + len(PALETTE)
    assert read_header(file[:start] + comments(20 - own) + file[start:], LIMITS).frames == 1
    with pytest.raises(OverLimit, match="more than 20 blocks"):
        read_header(file[:start] + comments(20 - own + 1) + file[start:], LIMITS)


def test_times_of_a_gif_are_read() -> None:
    assert [frame.duration_ms for frame in read_frames(gif(1, [Part([1]), Part([2])]), LIMITS).frames] == [70, 70]
