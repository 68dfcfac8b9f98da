"""An AVIF or HEIC is refused if a decoder would copy far more bytes than it has when it opens it."""

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from model.pictures.box_data import MAX_METADATA_ITEMS, MAX_TRACKS, SHARED_BYTES
from model.pictures.container import check_before_opening
from model.pictures.errors import Damaged, OverLimit
from model.pictures.reading import read_header
from tests.model.pictures.files import box
from tests.model.pictures.test_box_work import LIMITS, Part, av1, full_box, hevc, media_file

LIMIT_BYTES = LIMITS.max_metadata_bytes
HEADS = {b"avif": av1(64, 64), b"heic": hevc(1, 64, 64)}


def metadata(size: int, *, kind: bytes = b"Exif", pictures: int = 1) -> Part:
    return Part(kind=kind, data=bytes(size), size=(1, 1), references={b"cdsc": range(1, 1 + pictures)})


def of_track(size: int, times: int) -> bytes:
    """Make a track whose items are the first bytes of the file."""
    places = b"".join(struct.pack(">HHHII", number, 0, 1, 0, size) for number in range(times))
    return box(b"trak", full_box(b"meta", full_box(b"iloc", b"\x44\0", times.to_bytes(2), places)))


@pytest.mark.parametrize("brand", HEADS)
@pytest.mark.parametrize("kind", [b"Exif", b"mime", b"uri ", b"new "])
def test_metadata_in_all_is_limited_before_a_decoder_opens_the_file(
    brand: bytes, kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Image, "open")
    third = metadata(LIMIT_BYTES // 3, kind=kind)
    check_before_opening(media_file(HEADS[brand], *[third] * 3).replace(b"avif", brand), LIMITS)
    with pytest.raises(OverLimit, match="all metadata"):
        read_header(media_file(HEADS[brand], *[third] * 4).replace(b"avif", brand), LIMITS)


@pytest.mark.parametrize("kind", [b"av01", b"Exif"])
@pytest.mark.parametrize("shared_bytes", [SHARED_BYTES, 2 * SHARED_BYTES])
def test_items_that_share_their_bytes_far_too_often_are_refused(kind: bytes, shared_bytes: int) -> None:
    limits = replace(LIMITS, max_metadata_bytes=2**30)
    large = Part(kind=kind, data=bytes(SHARED_BYTES // 16), size=(1, 1), parts=16, overlapping=True)
    file = media_file(av1(64, 64), *[large] * (shared_bytes // SHARED_BYTES))
    if shared_bytes == SHARED_BYTES:
        check_before_opening(file, limits)
    else:
        with pytest.raises(OverLimit, match="share the same bytes"):
            check_before_opening(file, limits)


def test_metadata_counts_for_each_picture_that_it_describes() -> None:
    def file(pictures: int) -> bytes:
        return media_file(*[av1(64, 64)] * pictures, metadata(LIMIT_BYTES // 10, pictures=pictures))

    check_before_opening(file(10), LIMITS)
    with pytest.raises(OverLimit, match="all metadata"):
        check_before_opening(file(11), LIMITS)


def test_a_profile_counts_for_each_picture_that_has_it() -> None:
    tile = replace(av1(64, 64), setup=(b"colr", b"prof" + bytes(LIMIT_BYTES // 10)))
    check_before_opening(media_file(*[tile] * 9), LIMITS)
    with pytest.raises(OverLimit, match="all properties"):
        check_before_opening(media_file(*[tile] * 10), LIMITS)


def test_very_many_items_of_metadata_are_refused() -> None:
    check_before_opening(media_file(av1(64, 64), *[metadata(9)] * MAX_METADATA_ITEMS), LIMITS)
    with pytest.raises(OverLimit, match=f"{MAX_METADATA_ITEMS + 1} items of metadata"):
        check_before_opening(media_file(av1(64, 64), *[metadata(9)] * (MAX_METADATA_ITEMS + 1)), LIMITS)


@pytest.mark.parametrize("put", [lambda track: box(b"moov", track), lambda track: box(b"moov", track[8:])])
def test_metadata_of_tracks_counts(put: Callable[[bytes], bytes]) -> None:
    file = media_file(av1(64, 64)) + box(b"free", bytes(LIMIT_BYTES // 10))
    check_before_opening(file + put(of_track(LIMIT_BYTES // 10, 10)), LIMITS)
    with pytest.raises(OverLimit, match="all metadata"):
        check_before_opening(file + put(of_track(LIMIT_BYTES // 10, 11)), LIMITS)


def test_very_many_tracks_are_refused() -> None:
    file, track = media_file(av1(64, 64)), box(b"trak")
    check_before_opening(file + box(b"moov", MAX_TRACKS * track), LIMITS)
    with pytest.raises(OverLimit, match=f"{MAX_TRACKS + 1} tracks"):
        check_before_opening(file + box(b"moov", (MAX_TRACKS + 1) * track), LIMITS)


def test_metadata_of_a_track_without_a_place_is_damaged() -> None:
    with pytest.raises(Damaged, match="boxes do not say"):
        check_before_opening(media_file(av1(64, 64)) + box(b"moov", box(b"trak", full_box(b"meta"))), LIMITS)
