"""An AVIF or HEIC of very many items, frames or boxes is refused before a decoder opens it."""

import io
import struct

import pytest
from PIL import Image

from model.pictures.box_structure import MAX_BOXES, MAX_FRAMES, MAX_ITEMS
from model.pictures.errors import Damaged, OverLimit
from model.pictures.limits import Limits
from model.pictures.reading import read, read_header
from tests.model.pictures.files import box

LIMITS = Limits(max_picture_px=100, max_width_px=100, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000)


def avif(*behind: bytes) -> bytes:
    return box(b"ftyp", b"avif\0\0\0\0mif1avif") + b"".join(behind)


def items(*inner: bytes) -> bytes:
    return avif(box(b"meta", bytes(4) + b"".join(inner)))


def frames(*inner: bytes) -> bytes:
    table = b"".join(inner)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        table = box(kind, table)
    return avif(table)


def number(value: int) -> bytes:
    return struct.pack(">I", value)


MANY_ITEMS, MANY_FRAMES = number(MAX_ITEMS + 1), number(MAX_FRAMES + 1)
HALF = box(b"ipma", bytes(4) + number(MAX_ITEMS // 2 + 1))

HEAVY = {
    "associations": items(box(b"iprp", box(b"ipma", bytes(4) + MANY_ITEMS))),
    "associations in two boxes": items(box(b"iprp", HALF + HALF)),
    "items": items(box(b"iinf", bytes(4) + MANY_ITEMS[2:])),
    "items of version 1": items(box(b"iinf", b"\1\0\0\0" + MANY_ITEMS)),
    "places": items(box(b"iloc", bytes(6) + MANY_ITEMS[2:])),
    "places of version 2": items(box(b"iloc", b"\2" + bytes(5) + MANY_ITEMS)),
    "references": items(box(b"iref", bytes(17 * MAX_ITEMS))),
    "groups": items(box(b"grpl", bytes(17 * MAX_ITEMS))),
    "frames of a track": frames(box(b"stsz", bytes(8) + MANY_FRAMES)),
    "durations": frames(box(b"stts", bytes(4) + MANY_FRAMES)),
    "chunks": frames(box(b"stsc", bytes(4) + MANY_FRAMES)),
    "places of chunks": frames(box(b"stco", bytes(4) + MANY_FRAMES)),
    "wide places of chunks": frames(box(b"co64", bytes(4) + MANY_FRAMES)),
    "boxes": avif(box(b"free", b"") * (MAX_BOXES + 1)),
    "nested boxes": avif(box(b"moov", box(b"trak", b"") * MAX_BOXES)),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_file_with_far_too_many_entries_is_not_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Image, "open")
    with pytest.raises(OverLimit, match="the limit"):
        read_header(HEAVY[name], LIMITS)


def test_boxes_within_boxes_are_followed_to_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Image, "open")
    nested = box(b"ipma", bytes(4) + MANY_ITEMS)
    for _ in range(2000):
        nested = box(b"iprp", nested)
    with pytest.raises(OverLimit, match="ipma"):
        read_header(avif(nested), LIMITS)


@pytest.mark.parametrize(
    "file",
    [
        avif(2 * box(b"meta", bytes(4))),
        *(items(2 * box(kind, bytes(8))) for kind in (b"pitm", b"iloc", b"iinf", b"iref", b"iprp", b"idat")),
        items(box(b"iprp", 2 * box(b"ipco", b""))),
        *(frames(2 * box(kind, bytes(16))) for kind in (b"stsd", b"stsz", b"stco")),
    ],
)
def test_boxes_that_decoders_would_choose_from_are_refused(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Image, "open")
    with pytest.raises(Damaged, match="two boxes"):
        read_header(file, LIMITS)


def test_an_animation_is_read() -> None:
    made = io.BytesIO()
    shades = [Image.new("RGB", (9, 7), (20 * index, 0, 0)) for index in range(12)]
    shades[0].save(made, "AVIF", save_all=True, append_images=shades[1:])
    assert read(made.getvalue(), LIMITS).frames == 12
