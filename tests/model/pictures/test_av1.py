"""The pixels of AV1 data are those of its frame headers, hidden ones included."""

import io

import pytest
from PIL import Image

from model.pictures.av1 import MAX_HEADERS, MAX_UNITS, frame_px
from model.pictures.boxes import items_of
from model.pictures.errors import Damaged, OverLimit
from tests.model.pictures.av1_data import FRAME, SEQUENCE, frame, packed, sequence, unit

TIMES = f"1 {0:064b} {{}} 1 {9:05b} {0:037b} {3:05b}"
"""Times and a model of the decoder, in front of the operating points; if not all are equal, each frame has its own."""
POINT = f"00000 {0:012b} 00000"


@pytest.mark.parametrize("size", [(1, 1), (17, 300), (64, 64), (1000, 4)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_frame_of_a_picture_has_its_size(size: tuple[int, int], mode: str) -> None:
    made = io.BytesIO()
    Image.new(mode, size).save(made, "AVIF")
    file = made.getvalue()
    items = items_of(file)
    for item in (items.primary, *items.others.values()):
        assert frame_px(item.data(file)) == size[0] * size[1]


def test_the_first_frame_of_an_animation_has_its_size() -> None:
    made, frames = io.BytesIO(), [Image.new("RGB", (33, 20), (40 * index, 0, 0)) for index in range(3)]
    frames[0].save(made, "AVIF", save_all=True, append_images=frames[1:])
    file = made.getvalue()
    assert frame_px(items_of(file).primary.data(file)) == 33 * 20


@pytest.mark.parametrize(
    ("points", "time"),
    [
        (f"0 0 {POINT}", ""),
        (f"0 0 00001 {0:012b} 01000 1 {0:012b} 00000", ""),
        (f"0 1 {POINT} 1 1010", ""),
        (f"0 1 {POINT} 0", ""),
        (f"1 {0:064b} 0 0 0 {POINT}", ""),
        (f"{TIMES.format('1 00101')} 0 {POINT} 1 {0:021b}", ""),
        (f"{TIMES.format('0')} 0 {POINT} 0", "1111"),
    ],
)
@pytest.mark.parametrize(
    ("tools", "chosen"),
    [
        ("0 000 0000 0 1 1", "0"),
        ("0 000 0000 0 1 1", "1 1"),
        ("0 000 0000 1 11 0 0", ""),
        ("1 0010 011 000 0000 0 0 1 0 1", 8 * "1"),
    ],
)
def test_optional_fields_are_passed_over(points: str, time: str, tools: str, chosen: str) -> None:
    for names_size, px in (("0", 70 * 30), ("1", 2**32)):
        data = sequence(70, 30, points=points, tools=tools)
        assert frame_px(data + unit(FRAME, packed(f"0 00 1 {time} 0 {chosen} {names_size}"))) == px


def test_hidden_frames_count() -> None:
    hidden = frame(kind=1, shown=False)
    assert frame_px(sequence(100, 50) + frame() + 3 * hidden) == 4 * 5000


def test_a_frame_that_names_its_size_counts_with_the_largest_that_it_could_name() -> None:
    assert frame_px(sequence(100, 50) + frame(names_size=True)) == 2**16 * 2**16
    assert frame_px(sequence(100, 50, side_bits=7) + frame(names_size=True)) == 2**7 * 2**7


def test_a_later_sequence_counts_with_its_own_size() -> None:
    assert frame_px(sequence(10, 10) + frame() + sequence(200, 100) + frame()) == 100 + 20_000


@pytest.mark.parametrize("data", [frame(), sequence(9, 9) + frame(kind=1), sequence(9, 9) + frame(shown=False)])
def test_pixels_that_rely_on_others_are_damaged(data: bytes) -> None:
    with pytest.raises(Damaged, match="do not begin with a"):
        frame_px(data)


@pytest.mark.parametrize("end", range(1, 9))
def test_a_header_that_ends_too_early_is_damaged(end: int) -> None:
    with pytest.raises(Damaged, match="ends too early"):
        frame_px(unit(SEQUENCE, sequence(9, 9)[2 : 2 + end]) + frame())


def test_a_time_without_end_is_damaged() -> None:
    with pytest.raises(Damaged, match="time without end"):
        frame_px(sequence(9, 9, points=f"1 {0:064b} 1 {1:034b}"))


def test_very_many_units_are_refused() -> None:
    with pytest.raises(OverLimit, match=f"more than {MAX_UNITS} units"):
        frame_px(unit(2, b"") * (MAX_UNITS + 1))
    with pytest.raises(OverLimit, match=f"more than {MAX_HEADERS} headers"):
        frame_px(sequence(1, 1) + frame() * MAX_HEADERS)


def test_a_unit_without_a_size_is_damaged() -> None:
    assert frame_px(b"") == 0
    with pytest.raises(Damaged, match="ends too early"):
        frame_px(b"\x0a" + 9 * b"\xff")
