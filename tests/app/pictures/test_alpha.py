"""Transparent pictures as the network sees them, and back."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.pictures.alpha import TRUSTED_ALPHA, AlphaRows, as_seen
from app.pictures.picture import Pixels, planes_of

BITS = pytest.mark.parametrize("bits", [8, 16])
WRAPS = pytest.mark.parametrize("wraps", [False, True])


def alpha_of(levels: NDArray[numpy.integer], bits: int = 8) -> Pixels:
    """Make alpha (H, W) of levels of 8 bits."""
    alpha: Pixels = levels.astype(numpy.uint8) if bits == 8 else levels.astype(numpy.uint16) * numpy.uint16(257)
    return alpha


def noise(height: int, width: int, *, bits: int = 8, seed: int = 0) -> Pixels:
    return alpha_of(numpy.random.default_rng(seed).integers(0, 256, (height, width)), bits)


def planes(alpha: Pixels) -> Pixels:
    """Make planes (2, H, W, 3) with one colour."""
    return planes_of(numpy.full((*alpha.shape, 3), 200, alpha.dtype), alpha)


def seen_alpha(alpha: Pixels, *, wraps: bool = False) -> Pixels:
    return as_seen(planes(alpha), wraps=wraps)[1, :, :, 0]


def restored(
    alpha: Pixels, upscaled: Pixels, *, wraps: bool = False, is_relative: bool = True, band: int = 5
) -> Pixels:
    """Bring enlarged alpha (H, W) back to its levels, some rows at a time."""
    stage = AlphaRows(alpha, upscaled.shape, wraps=wraps, is_relative=is_relative)
    made = [stage.rows(planes(upscaled[top : top + band])) for top in range(0, len(upscaled), band)]
    return numpy.concatenate([part[1, :, :, 0] for part in made])


def enlarged(alpha: Pixels, scale: int = 4) -> Pixels:
    return alpha.repeat(scale, axis=0).repeat(scale, axis=1)


@BITS
def test_a_faint_stroke_is_solid_to_the_network(bits: int) -> None:
    levels = numpy.zeros((21, 21), int)
    levels[:, 9:12] = 90
    seen = seen_alpha(alpha_of(levels, bits))
    assert (seen[:, 9:12] == numpy.iinfo(seen.dtype).max).all()
    assert not seen[:, :9].any()
    assert not seen[:, 12:].any()


def test_a_hole_that_is_not_clear_is_clear_to_the_network() -> None:
    levels = numpy.full((21, 21), 255)
    levels[:, 9:12] = 90
    assert not seen_alpha(alpha_of(levels))[:, 9:12].any()


def test_thin_strokes_with_a_solid_pixel_near_keep_their_peaks() -> None:
    levels = numpy.zeros((9, 30), int)
    levels[4, 5:25] = 120
    levels[4, 5:25:4] = 255
    assert numpy.abs(seen_alpha(alpha_of(levels)).astype(int)[4, 6:24] - levels[4, 6:24]).max() <= 16


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 20), wraps=st.booleans(), smooth=st.booleans())
def test_alpha_that_nothing_changes_comes_back_exactly(height: int, width: int, wraps: bool, smooth: bool) -> None:
    alpha = noise(height, width)
    if smooth:
        alpha = (alpha // 64 + numpy.arange(width) * 255 // (width + 3)).clip(0, 255).astype(numpy.uint8)
    assert (restored(alpha, seen_alpha(alpha, wraps=wraps), wraps=wraps) == alpha).all()


@BITS
@WRAPS
def test_bands_and_slices_do_not_show(bits: int, *, wraps: bool) -> None:
    alpha, upscaled = noise(70, 9, bits=bits), noise(280, 36, bits=bits, seed=1)
    whole = restored(alpha, upscaled, wraps=wraps, band=280)
    assert (restored(alpha, upscaled, wraps=wraps, band=7) == whole).all()
    again = numpy.concatenate((alpha, alpha))
    assert (seen_alpha(again, wraps=True)[20:60] == seen_alpha(alpha, wraps=True)[20:60]).all()
    assert (seen_alpha(again, wraps=True)[90:130] == seen_alpha(alpha, wraps=True)[20:60]).all()


@BITS
def test_opposite_edges_meet_where_they_wrap(bits: int) -> None:
    alpha, upscaled = noise(12, 20, bits=bits), noise(48, 80, bits=bits, seed=1)
    assert (
        seen_alpha(numpy.roll(alpha, (5, 8), (0, 1)), wraps=True)
        == numpy.roll(seen_alpha(alpha, wraps=True), (5, 8), (0, 1))
    ).all()
    rolled = restored(numpy.roll(alpha, (5, 8), (0, 1)), numpy.roll(upscaled, (20, 32), (0, 1)), wraps=True)
    back = numpy.roll(rolled, (-20, -32), (0, 1)).astype(int)
    assert numpy.abs(back - restored(alpha, upscaled, wraps=True)).max() <= 1


@BITS
@pytest.mark.parametrize("level", [0, 1, 90, 254, 255])
def test_flat_alpha_stays_itself_whatever_the_network_makes_of_it(bits: int, level: int) -> None:
    levels = numpy.random.default_rng(0).integers(0, 256, (12, 12))
    levels[3:9, 3:9] = level
    made = restored(alpha_of(levels, bits), noise(48, 48, bits=bits))
    assert (made[16:32, 16:32] == alpha_of(numpy.array(level), bits)).all()


def test_the_edge_of_a_flat_area_stays_in_the_range_of_its_neighbours() -> None:
    """A band of two pixels between clear and solid: no pixel of it is the same all around."""
    levels = numpy.zeros((12, 12), int)
    levels[:, 4:6], levels[:, 6:] = 90, 255
    made = restored(alpha_of(levels), numpy.zeros((48, 48), numpy.uint8))
    assert (made[:, 20:24] == 90).all()
    made = restored(alpha_of(levels), numpy.full((48, 48), 255, numpy.uint8))
    assert (made[:, 16:20] == 90).all()


def test_the_edge_of_a_faint_area_next_to_solid_is_smooth_and_no_fainter() -> None:
    levels = numpy.full((12, 12), 90)
    levels[:, 6:] = 255
    made = restored(alpha_of(levels), noise(48, 48)).astype(int)
    assert (made[:, :22] == 90).all()
    assert made[:, 22:24].min() >= 90
    assert made[:, 22:24].max() <= (90 + 255) / 2


def test_alpha_between_letters_follows_the_network() -> None:
    """Two strokes with a gap of one pixel, whose neighbours are all visible: it may become clear."""
    levels = numpy.zeros((9, 9), int)
    levels[:, 3], levels[:, 4], levels[:, 5] = 180 + numpy.arange(9), 60 + numpy.arange(9), 150 + numpy.arange(9)
    made = restored(alpha_of(levels), numpy.zeros((36, 36), numpy.uint8))
    assert made[12:24, 16:20].max() <= 10


def test_alpha_is_at_most_that_of_what_is_around() -> None:
    levels = numpy.zeros((15, 15), int)
    levels[5:10, 5:10] = numpy.random.default_rng(0).integers(20, 60, (5, 5))
    assert restored(alpha_of(levels), numpy.full((60, 60), 255, numpy.uint8)).max() == levels.max()


def test_the_range_is_smooth_between_pixels() -> None:
    """A ramp has no steps at the edges of the pixels of the upload."""
    alpha = alpha_of(numpy.tile(numpy.arange(0, 200, 10), (9, 1)))
    made = restored(alpha, numpy.full((36, 80), 128, numpy.uint8))
    assert numpy.abs(numpy.diff(made[18].astype(int))).max() <= 5


@BITS
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), height=st.integers(1, 70), wraps=st.booleans())
def test_one_colour_stays_itself_under_any_alpha(bits: int, seed: int, height: int, wraps: bool) -> None:
    alpha = noise(height, 11, bits=bits, seed=seed)
    colour = noise(1, 3, bits=bits, seed=seed + 1)
    seen = as_seen(planes_of(numpy.tile(colour, (height, 11, 1)), alpha), wraps=wraps)
    assert (seen[0] == colour[0]).all()


@BITS
def test_rounding_errors_of_faint_colours_do_not_reach_the_network(bits: int) -> None:
    """The soft edge of a red disc that was stored premultiplied."""
    rows, columns = numpy.mgrid[:41, :41]
    levels = (255 - 16 * (numpy.hypot(rows - 20, columns - 20) - 4)).clip(0, 255).astype(int)
    alpha, red = alpha_of(levels), numpy.array((200, 30, 90))
    premultiplied = numpy.round(red * levels[..., None] / 255)
    colour = alpha_of(numpy.round(premultiplied * 255 / numpy.maximum(levels, 1)[..., None]).clip(0, 255), bits)
    before = planes_of(colour, alpha_of(levels, bits))
    faint = (alpha > 0) & (alpha < 12)

    def error(some: Pixels) -> float:
        unit = 1 if bits == 8 else 257
        return float(numpy.abs(some[0][faint].astype(float) / unit - red).max())

    assert error(before) > 40
    assert error(as_seen(before, wraps=False)) < 6


def test_colours_that_are_not_faint_are_seen_as_they_are() -> None:
    alpha = noise(20, 20).clip(int(TRUSTED_ALPHA * 255) + 1, 255).astype(numpy.uint8)
    colour = numpy.random.default_rng(1).integers(0, 256, (20, 20, 3), numpy.uint8)
    assert (as_seen(planes_of(colour, alpha), wraps=False)[0] == colour).all()


def test_a_shadow_keeps_its_colour_next_to_a_bright_object() -> None:
    colour, alpha = numpy.zeros((20, 20, 3), numpy.uint8), numpy.full((20, 20), 100, numpy.uint8)
    colour[:, 10:], alpha[:, 10:] = 255, 255
    assert not as_seen(planes_of(colour, alpha), wraps=False)[0, :, :10].any()


@WRAPS
def test_faint_colours_are_corrected_across_edges_that_wrap(*, wraps: bool) -> None:
    colour, alpha = numpy.zeros((6, 12, 3), numpy.uint8), numpy.zeros((6, 12), numpy.uint8)
    colour[:, -1], alpha[:, -1] = (200, 30, 90), 255
    colour[:, 0], alpha[:, 0] = (0, 0, 255), 1
    seen = as_seen(planes_of(colour, alpha), wraps=wraps)[0, 3, 0].astype(int)
    assert (numpy.abs(seen - (200, 30, 90)).max() <= 4) == wraps
