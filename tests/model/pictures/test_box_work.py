"""An AVIF or HEIC is refused if a decoder would work through far more pixels than it shows."""

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import pyvips
from PIL import Image

from model.pictures.box_work import ITEM_PX, MAX_DEPTH, MAX_FACTOR, SMALL_PX
from model.pictures.boxes import MAX_EXTENTS, items_of
from model.pictures.container import check_before_opening
from model.pictures.errors import Damaged, OverLimit
from model.pictures.limits import Limits
from model.pictures.reading import read, read_header
from model.pictures.units import MAX_UNITS
from tests.model.pictures.av1_data import frame, sequence
from tests.model.pictures.files import box

LIMITS = Limits(
    max_picture_px=2**24, max_width_px=2**14, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000
)
SLICE, SETUP = 1, bytes(21) + b"\3\0"
"""A type of NAL units, and a setup whose NAL units have lengths of 4 bytes."""
ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def full_box(kind: bytes, *content: bytes, version: int = 0) -> bytes:
    return box(kind, bytes((version, 0, 0, 0)), *content)


@dataclass(frozen=True, kw_only=True)
class Part:
    """An item of a file."""

    kind: bytes
    data: bytes = b""
    size: tuple[int, int]
    references: Mapping[bytes, Sequence[int]] = field(default_factory=dict)
    setup: tuple[bytes, bytes] | None = None
    """Kind and content of a further property."""
    in_meta: bool = False
    parts: int = 1
    """Parts into which the data is cut."""
    overlapping: bool = False
    """Each part is all of the data."""


def media_file(*parts: Part) -> bytes:
    """Make a file of items 1, 2 and so on; the first one is shown."""
    head = box(b"ftyp", b"avif\0\0\0\0mif1avif")
    start = len(head) + len(_meta(parts, 0)) + 8
    return head + _meta(parts, start) + box(b"mdat", *(part.data for part in parts))


def _meta(parts: Sequence[Part], start: int) -> bytes:
    places = known = entries = links = inner = b""
    properties: list[bytes] = []
    for number, part in enumerate(parts, 1):
        begin = len(inner) if part.in_meta else start
        inner += part.data if part.in_meta else b""
        places += struct.pack(">HHHH", number, part.in_meta, 0, part.parts)
        each = len(part.data) if part.overlapping else -(-len(part.data) // part.parts)
        for offset in range(0, part.parts * each, each):
            place = 0 if part.overlapping else offset
            places += struct.pack(">II", begin + place, min(each, len(part.data) - place))
        start += len(part.data)
        own = [full_box(b"ispe", struct.pack(">II", *part.size)), *([box(*part.setup)] if part.setup else [])]
        indices = (len(properties) + 1, 0x80 | len(properties) + 2)
        known += struct.pack(">HB", number, len(own)) + bytes(indices[: len(own)])
        properties += own
        entries += full_box(b"infe", struct.pack(">HH4sx", number, 0, part.kind), version=2)
        links += b"".join(
            box(kind, struct.pack(f">HH{len(others)}H", number, len(others), *others))
            for kind, others in part.references.items()
        )
    return full_box(
        b"meta",
        full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", b"\0\1"),
        full_box(b"iloc", b"\x44\0", len(parts).to_bytes(2), places, version=1),
        full_box(b"iinf", len(parts).to_bytes(2), entries),
        box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", len(parts).to_bytes(4), known)),
        full_box(b"iref", links),
        box(b"idat", inner),
    )


def av1(width: int, height: int, *, said: tuple[int, int] | None = None, hidden: int = 0) -> Part:
    """A coded item, which may say another size than its frames have."""
    data = sequence(width, height) + frame() + hidden * frame(kind=1, shown=False)
    return Part(kind=b"av01", data=data, size=said or (width, height))


def layers(width: int, height: int) -> Part:
    """A coded item of four layers; the first has half of the width and height."""
    small = (width // 2, height // 2)
    data = sequence(width, height) + frame(size=small) + 3 * frame(kind=1)
    return Part(kind=b"av01", data=data, size=(width, height))


def alpha_of_first(part: Part) -> Part:
    return replace(part, references={b"auxl": [1]}, setup=(b"auxC", ALPHA))


def tiles(across: int, down: int, tile: Part, *shown: int) -> tuple[Part, ...]:
    """A grid of equal tiles."""
    width, height = shown
    data = struct.pack(">BBBBHH", 0, 0, down - 1, across - 1, width, height)
    numbers = range(2, 2 + across * down)
    return Part(kind=b"grid", data=data, size=(width, height), references={b"dimg": numbers}), *[tile] * len(numbers)


def overlay(width: int, height: int, *others: int, said: tuple[int, int] | None = None) -> Part:
    """A canvas with other items on it."""
    data = struct.pack(">BB8xHH", 0, 0, width, height) + bytes(4 * len(others))
    return Part(kind=b"iovl", data=data, size=said or (width, height), references={b"dimg": others})


def hevc(pictures: int, width: int, height: int) -> Part:
    """A coded item with hidden pictures in front of the one that is shown."""
    unit = struct.pack(">IBBB", 3, SLICE << 1, 1, 0x80)
    return Part(kind=b"hvc1", data=pictures * unit, size=(width, height), setup=(b"hvcC", SETUP))


def nested(depth: int) -> list[Part]:
    """Two canvases made of two others each, down to a depth."""
    pairs = [overlay(64, 64, 2 * level + 2, 2 * level + 3) for level in range(depth) for _ in range(2)]
    return [*pairs[1:], av1(64, 64), av1(64, 64)]


FINE = {
    "a picture": (av1(4000, 4000),),
    "tiles of a picture that is hardly larger than one": tiles(2, 2, av1(512, 512), 520, 520),
    "tiles of a long picture": tiles(1, 20, av1(512, 512), 64, 10_000),
    "tiles of the largest picture": tiles(8, 8, av1(520, 520), 4096, 4096),
    "two layers": (av1(2000, 2000, hidden=1),),
    "a reduced layer": (layers(4000, 4000),),
    "layers with alpha": (layers(4000, 4000), alpha_of_first(layers(4000, 4000))),
    "a canvas": (overlay(4000, 4000, 2), av1(4000, 4000)),
    "a HEIC": (hevc(1, 4000, 4000),),
}

LARGE = av1(8192, 8192, said=(64, 64))
HEAVY = {
    "a frame that is larger than said": (av1(16_384, 8192, said=(64, 64)),),
    "hidden frames": (av1(4000, 4000, hidden=8),),
    "tiles that are larger than the picture": tiles(2, 1, av1(4096, 16_384), 4160, 64),
    "tiles that are larger than said": tiles(2, 1, av1(4096, 16_384, said=(4096, 64)), 4160, 64),
    "a grid that is larger than said": (Part(kind=b"grid", data=b"\0\0\0\0" + 4 * b"\xff", size=(64, 64)),),
    "a grid with wide numbers": (Part(kind=b"grid", data=b"\0\1\0\0" + 2 * b"\0\0\x40\0", size=(64, 64)),),
    "a canvas that is larger than said": (overlay(20_000, 20_000, said=(64, 64)),),
    "canvases on canvases": (
        overlay(64, 64, *range(2, 72)),
        *[overlay(64, 64, *range(72, 142))] * 70,
        *[av1(9, 9)] * 70,
    ),
    "hidden pictures of a HEIC": (hevc(9, 4000, 4000),),
    "alpha": (av1(64, 64), alpha_of_first(LARGE)),
    "data beside the items": (replace(LARGE, in_meta=True),),
    "data in parts": (replace(LARGE, parts=3),),
}


@pytest.mark.parametrize("name", FINE)
def test_a_sound_file_is_not_refused(name: str) -> None:
    check_before_opening(media_file(*FINE[name]), LIMITS)


@pytest.mark.parametrize("name", HEAVY)
def test_a_file_of_far_more_pixels_than_it_shows_is_not_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Image, "open")
    with pytest.raises(OverLimit, match="tiles, layers and hidden frames; the limit is"):
        read_header(media_file(*HEAVY[name]), LIMITS)


def test_the_size_is_limited_before_a_crop() -> None:
    with pytest.raises(OverLimit, match="16384 x 4096 = 67108864 px"):
        check_before_opening(media_file(av1(16_384, 4096)), LIMITS)


def test_the_limit_itself_is_allowed() -> None:
    height = MAX_FACTOR * SMALL_PX // 4096
    check_before_opening(media_file(av1(4096, height, said=(64, 64))), LIMITS)
    with pytest.raises(OverLimit, match=f"the limit is {4096 * height} px"):
        check_before_opening(media_file(av1(4096, height + 1, said=(64, 64))), LIMITS)


@pytest.mark.parametrize("canvases", [64, 65])
def test_every_item_counts_for_its_decoder(canvases: int) -> None:
    small = [av1(1, 1)] * (MAX_FACTOR * SMALL_PX // ITEM_PX // 64)
    first = 2 + canvases
    canvas = overlay(8, 8, *range(first, first + len(small)))
    file = media_file(overlay(8, 8, *range(2, first)), *[canvas] * canvases, *small)
    if canvases == 64:
        check_before_opening(file, LIMITS)
    else:
        with pytest.raises(OverLimit, match="hidden frames"):
            check_before_opening(file, LIMITS)


def test_very_many_nal_units_of_all_pictures_are_refused() -> None:
    empty = Part(kind=b"hvc1", data=bytes(4 * MAX_UNITS // 2 + 3), size=(9, 9), setup=(b"hvcC", SETUP))
    check_before_opening(media_file(*tiles(2, 1, empty, 9, 9)), LIMITS)
    with pytest.raises(OverLimit, match=f"more than {MAX_UNITS} OBUs or NAL units"):
        check_before_opening(media_file(*tiles(2, 1, replace(empty, data=empty.data + bytes(4)), 9, 9)), LIMITS)


def test_pictures_count_their_obus_together() -> None:
    tile = replace(av1(9, 9), data=sequence(9, 9) + frame() + bytes(998 * (0x7A, 0)))
    check_before_opening(media_file(*tiles(20, 1, tile, 9, 9)), LIMITS)
    with pytest.raises(OverLimit, match=f"more than {MAX_UNITS} OBUs"):
        check_before_opening(media_file(*tiles(21, 1, tile, 9, 9)), LIMITS)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 30])
def test_items_within_items_to_a_great_depth_are_refused(depth: int) -> None:
    check_before_opening(media_file(*nested(MAX_DEPTH)), LIMITS)
    with pytest.raises(OverLimit, match="depth"):
        check_before_opening(media_file(*nested(depth)), LIMITS)


def test_an_item_that_is_made_of_itself_is_refused() -> None:
    with pytest.raises(OverLimit, match="depth"):
        check_before_opening(media_file(overlay(64, 64, 1)), LIMITS)


def test_parts_of_items_that_overlap_are_refused() -> None:
    data = sequence(9, 9) + frame() + bytes(2000)
    check_before_opening(media_file(Part(kind=b"av01", data=data, size=(9, 9), parts=2)), LIMITS)
    with pytest.raises(Damaged, match="overlap"):
        check_before_opening(media_file(Part(kind=b"av01", data=data, size=(9, 9), parts=2, overlapping=True)), LIMITS)


def test_very_many_parts_of_items_are_refused() -> None:
    part = Part(kind=b"Exif", data=bytes(MAX_EXTENTS // 2 + 1), size=(1, 1), parts=MAX_EXTENTS // 2 + 1)
    check_before_opening(media_file(av1(9, 9), part), LIMITS)
    with pytest.raises(OverLimit, match="parts"):
        check_before_opening(media_file(av1(9, 9), part, part), LIMITS)


@pytest.mark.parametrize("kind", [b"pitm", b"iloc", b"iprp", b"ipco"])
def test_a_file_without_a_box_that_it_needs_is_damaged(kind: bytes) -> None:
    with pytest.raises(Damaged, match="boxes do not say"):
        check_before_opening(media_file(av1(9, 9)).replace(kind, b"free"), LIMITS)


@pytest.mark.parametrize("alpha", [False, True])
def test_the_first_frame_of_an_animation_counts(alpha: bool) -> None:
    made = io.BytesIO()
    frames = [Image.new("RGBA" if alpha else "RGB", (60, 70), (20 * index, 0, 0)) for index in range(3)]
    frames[0].save(made, "AVIF", save_all=True, append_images=frames[1:])
    file = made.getvalue()
    assert read(file, LIMITS).frames == 3
    data = items_of(file).primary.data(file)
    heavy = (sequence(16_384, 8192) + frame()).ljust(len(data), b"\0")
    assert len(heavy) == len(data)
    place = file.index(b"moov") - 4
    head = box(b"ftyp", b"avis\0\0\0\0msf1avis")
    with pytest.raises(OverLimit, match="shows 60 x 70 px, and has 134217728 px"):
        read_header(head + box(b"free", bytes(place - len(head) - 8)) + file[place:].replace(data, heavy), LIMITS)


@pytest.mark.parametrize(("bits", "name", "kind"), [(8, "srgb", "uchar"), (10, "rgb16", "ushort")])
def test_tiles_of_an_encoder_are_read(bits: int, name: str, kind: str) -> None:
    image = pyvips.Image.black(64, 64, bands=3).cast(kind).copy(interpretation=name)
    item = items_of(file := image.heifsave_buffer(compression="av1", bitdepth=bits, effort=0)).primary
    tile = Part(kind=b"av01", data=item.data(file), size=(64, 64), setup=(b"av1C", item.property(b"av1C") or b""))
    assert read(media_file(*tiles(2, 1, tile, 100, 64)), LIMITS).samples.colour.shape == (64, 100, 3)
