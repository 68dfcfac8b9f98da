"""Colour spaces described without a profile: formats that keep them, and notes about lost ones."""

import struct
import zlib

import pytest

from app.pictures.decode import decode
from app.pictures.encode import FORMATS
from app.pictures.layout import chosen_format
from model.pictures.boxes import items_of
from tests.app.conftest import encoded, noise
from tests.app.pictures.files import LIMITS, SRGB_PROFILE, chunk, levels, png
from tests.app.pictures.test_formats import left_out
from tests.app.pictures.test_kinds import answered

PQ_BT2020 = bytes((9, 16, 0, 1))
SRGB_CHROMATICITIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_CHROMATICITIES = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize("form", ["png", "avif"])
def test_cicp_travels_to_the_formats_that_have_a_place_for_it(form: str) -> None:
    picture = decode(png(levels(3), chunk(b"cICP", PQ_BT2020)), LIMITS)
    file = answered(picture, form)
    assert left_out(picture, form) == ()
    again = decode(file, LIMITS)
    assert again.metadata.colours == {b"cICP": PQ_BT2020}
    if form == "avif":
        assert items_of(file).nclx == (9, 16, 6)


@pytest.mark.parametrize("form", ["webp", "jpeg"])
def test_colours_without_a_place_are_named(form: str) -> None:
    pq = decode(png(levels(3), chunk(b"cICP", PQ_BT2020)), LIMITS)
    gamma = decode(png(levels(3), chunk(b"gAMA", (100_000).to_bytes(4)), chunk(b"cHRM", P3_CHROMATICITIES)), LIMITS)
    assert left_out(pq, form) == ("cicp",)
    assert left_out(gamma, form) == ("gamma", "chrm")
    assert left_out(gamma, "avif") == ("gamma", "chrm")
    assert left_out(gamma, "png") == ()


def test_colours_of_srgb_are_nothing_to_leave_out() -> None:
    chunks = [chunk(b"sRGB", b"\0"), chunk(b"gAMA", (45_455).to_bytes(4)), chunk(b"cHRM", SRGB_CHROMATICITIES)]
    picture = decode(png(levels(3), *chunks, chunk(b"cICP", bytes((1, 13, 0, 1)))), LIMITS)
    assert left_out(picture, "webp") == ()
    answer = answered(picture, "png")
    assert all(part in answer for part in chunks)


@pytest.mark.parametrize("named", [chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB_PROFILE)), chunk(b"sRGB", b"\0")])
def test_what_has_no_effect_is_nothing_to_leave_out(named: bytes) -> None:
    others = chunk(b"gAMA", (100_000).to_bytes(4)), chunk(b"cHRM", P3_CHROMATICITIES)
    picture = decode(png(levels(3), named, *others), LIMITS)
    assert left_out(picture, "webp") == left_out(picture, "avif") == left_out(picture, "png") == ()
    assert chosen_format((FORMATS["webp"], FORMATS["png"]), picture) is FORMATS["webp"]


def test_nclx_of_an_avif_becomes_cicp_of_a_png() -> None:
    file = answered(decode(png(levels(3), chunk(b"cICP", PQ_BT2020)), LIMITS), "avif")
    assert chunk(b"cICP", PQ_BT2020) in answered(decode(file, LIMITS, "strip"), "png")


def test_cicp_overrides_a_profile_as_in_the_png() -> None:
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB_PROFILE))
    picture = decode(png(levels(3), chunk(b"cICP", PQ_BT2020), profile), LIMITS)
    avif_again = decode(answered(picture, "avif"), LIMITS).metadata
    assert (avif_again.colours, avif_again.icc_profile) == ({b"cICP": PQ_BT2020}, None)
    png_again = decode(answered(picture, "png"), LIMITS).metadata
    assert (png_again.colours, png_again.icc_profile) == ({b"cICP": PQ_BT2020}, SRGB_PROFILE)


def with_nclx(primaries: int, transfer: int) -> bytes:
    file = answered(decode(png(levels(3)), LIMITS), "avif")
    return file.replace(b"nclx" + struct.pack(">HH", 1, 13), b"nclx" + struct.pack(">HH", primaries, transfer))


@pytest.mark.parametrize("transfer", [1, 2, 6, 14, 15])
def test_transfer_of_video_is_srgb_as_browsers_show_it_in_an_avif(transfer: int) -> None:
    assert decode(with_nclx(1, transfer), LIMITS).metadata.colours == {}
    assert decode(with_nclx(2, transfer), LIMITS).metadata.colours == {}
    wide = decode(with_nclx(9, transfer), LIMITS)
    assert wide.metadata.colours == {b"cICP": bytes((9, 13, 0, 1))}
    assert items_of(answered(wide, "avif")).nclx == (9, 13, 6)
    assert decode(png(levels(3), chunk(b"cICP", bytes((1, 1, 0, 1)))), LIMITS).metadata.colours != {}


def test_primaries_that_an_avif_does_not_specify_are_those_of_srgb() -> None:
    assert decode(with_nclx(2, 16), LIMITS).metadata.colours == {b"cICP": bytes((1, 16, 0, 1))}
    assert decode(with_nclx(9, 3), LIMITS).metadata.colours == {}


@pytest.mark.parametrize("unnamed", [(2, 2), (2, 13), (9, 2), (0, 0), (12, 3)])
def test_cicp_that_does_not_name_the_colours_leaves_that_to_other_chunks(unnamed: tuple[int, int]) -> None:
    cicp, gamma = chunk(b"cICP", bytes((*unnamed, 0, 1))), chunk(b"gAMA", (100_000).to_bytes(4))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB_PROFILE))
    profiled = decode(png(levels(3), cicp, profile), LIMITS)
    assert decode(answered(profiled, "avif"), LIMITS).metadata.icc_profile == SRGB_PROFILE
    assert left_out(decode(png(levels(3), cicp, gamma), LIMITS), "avif") == ("gamma",)
    assert cicp not in answered(profiled, "png")


def test_srgb_of_an_avif_is_not_repeated() -> None:
    assert decode(encoded(noise(9, 7), "AVIF"), LIMITS).metadata.colours == {}


@pytest.mark.parametrize(("full_range", "expected"), [(0, ("cicp",)), (1, ())])
def test_colours_of_narrow_range_are_not_called_full_in_an_avif(full_range: int, expected: tuple[str, ...]) -> None:
    picture = decode(png(levels(3), chunk(b"cICP", bytes((9, 16, 0, full_range)))), LIMITS)
    assert left_out(picture, "avif") == expected
    assert items_of(answered(picture, "avif")).nclx == ((9, 16, 6) if full_range else (1, 13, 6))
    assert left_out(picture, "png") == ()


@pytest.mark.parametrize("form", ["webp", "jpeg", "avif"])
def test_srgb_of_narrow_range_is_named_where_it_has_no_place(form: str) -> None:
    assert left_out(decode(png(levels(3), chunk(b"cICP", bytes((1, 13, 0, 0)))), LIMITS), form) == ("cicp",)
