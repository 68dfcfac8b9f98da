"""The pixels of AV1 data are those of its frame headers, hidden ones included."""

import io

import pytest
from PIL import Image

from model.pictures.av1 import MAX_HEADERS, frame_px
from model.pictures.boxes import items_of
from model.pictures.errors import Damaged, OverLimit
from model.pictures.units import MAX_UNITS, Units
from tests.model.pictures.av1_data import FRAME, SEQUENCE, frame, obu, packed, sequence

TIMES = f"1 {0:064b} {{}} 1 {9:05b} {0:037b} {3:05b}"
"""Times and a model of the decoder, in front of the operating points; if not all are equal, each frame has its own."""
POINT = f"00000 {0:012b} 00000"


def px_of(data: bytes) -> int:
    return frame_px(data, Units())


@pytest.mark.parametrize("size", [(1, 1), (17, 300), (64, 64), (1000, 4)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_frame_of_a_picture_has_its_size(size: tuple[int, int], mode: str) -> None:
    made = io.BytesIO()
    Image.new(mode, size).save(made, "AVIF")
    file = made.getvalue()
    items = items_of(file)
    for item in (items.primary, *items.others.values()):
        assert px_of(item.data(file)) == size[0] * size[1]


def test_the_first_frame_of_an_animation_has_its_size() -> None:
    made, frames = io.BytesIO(), [Image.new("RGB", (33, 20), (40 * index, 0, 0)) for index in range(3)]
    frames[0].save(made, "AVIF", save_all=True, append_images=frames[1:])
    file = made.getvalue()
    assert px_of(items_of(file).primary.data(file)) == 33 * 20


@pytest.mark.parametrize(
    ("points", "time", "removal"),
    [
        (f"0 0 {POINT}", "", ""),
        (f"0 0 00001 {0:012b} 01000 1 {0:012b} 00000", "", ""),
        (f"0 1 {POINT} 1 1010", "", ""),
        (f"0 1 {POINT} 0", "", ""),
        (f"1 {0:064b} 0 0 0 {POINT}", "", ""),
        (f"{TIMES.format('1 00101')} 0 {POINT} 1 {0:021b}", "", "0"),
        (f"{TIMES.format('0')} 0 {POINT} 0", "1111", "0"),
    ],
)
@pytest.mark.parametrize(
    ("tools", "chosen", "order"),
    [
        ("0 000 0000 0 1 1", "0", ""),
        ("0 000 0000 0 1 1", "1 1", ""),
        ("0 000 0000 1 11 0 0 100", "", "11111"),
        ("0 000 0000 1 11 1 0 1 000", "0", "1"),
        ("1 0010 011 000 0000 0 0 1 0 1", 8 * "1", ""),
    ],
)
def test_optional_fields_are_passed_over(
    points: str, time: str, removal: str, tools: str, chosen: str, order: str
) -> None:
    data = sequence(70, 30, points=points, tools=tools)
    start = f"0 00 1 {time} 0 {chosen}"
    assert px_of(data + obu(FRAME, packed(f"{start} 0"))) == 70 * 30
    assert px_of(data + obu(FRAME, packed(f"{start} 1 {order} {removal} {19:016b} {9:016b}"))) == 20 * 10


def test_hidden_frames_count() -> None:
    hidden = frame(kind=1, shown=False)
    assert px_of(sequence(100, 50) + frame() + 3 * hidden) == 4 * 5000


def test_a_key_frame_of_its_own_size_counts_with_it() -> None:
    assert px_of(sequence(100, 50) + frame(size=(3, 7))) == 21
    assert px_of(sequence(100, 50) + frame(size=(30_000, 20_000))) == 600_000_000
    assert px_of(sequence(100, 50, side_bits=7) + frame(size=(50, 25), side_bits=7) + frame()) == 1250 + 5000


@pytest.mark.parametrize(("side_bits", "most_px"), [(16, 2**32), (7, 2**14)])
def test_another_frame_of_its_own_size_counts_with_the_largest_that_it_could_have(side_bits: int, most_px: int) -> None:
    key = sequence(100, 50, side_bits=side_bits) + frame()
    assert px_of(key + frame(kind=1, size=(3, 7))) == 5000 + most_px
    assert px_of(key + frame(shown=False, size=(3, 7))) == 5000 + most_px
    times = sequence(100, 50, side_bits=side_bits, points=f"{TIMES.format('0')} 0 {POINT} 0")
    assert px_of(times + obu(FRAME, packed("0 00 1 1111 0 0 1 1"))) == most_px


def test_a_later_sequence_counts_with_its_own_size() -> None:
    assert px_of(sequence(10, 10) + frame() + sequence(200, 100) + frame()) == 100 + 20_000


@pytest.mark.parametrize("data", [frame(), sequence(9, 9) + frame(kind=1), sequence(9, 9) + frame(shown=False)])
def test_pixels_that_rely_on_others_are_damaged(data: bytes) -> None:
    with pytest.raises(Damaged, match="do not begin with a"):
        px_of(data)


@pytest.mark.parametrize("end", range(1, 9))
def test_a_header_that_ends_too_early_is_damaged(end: int) -> None:
    with pytest.raises(Damaged, match="ends too early"):
        px_of(obu(SEQUENCE, sequence(9, 9)[2 : 2 + end]) + frame())


def test_a_time_without_end_is_damaged() -> None:
    with pytest.raises(Damaged, match="time without end"):
        px_of(sequence(9, 9, points=f"1 {0:064b} 1 {1:034b}"))


def test_very_many_obus_of_all_pictures_are_refused() -> None:
    units, half = Units(), obu(2, b"") * (MAX_UNITS // 2)
    frame_px(half, units)
    frame_px(half, units)
    with pytest.raises(OverLimit, match=f"more than {MAX_UNITS} OBUs"):
        frame_px(obu(2, b""), units)


def test_very_many_headers_of_a_picture_are_refused() -> None:
    with pytest.raises(OverLimit, match=f"more than {MAX_HEADERS} headers"):
        px_of(sequence(1, 1) + frame() * MAX_HEADERS)


def test_an_obu_without_a_size_is_damaged() -> None:
    assert px_of(b"") == 0
    with pytest.raises(Damaged, match="ends too early"):
        px_of(b"\x0a" + 9 * b"\xff")
