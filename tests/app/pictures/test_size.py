"""Requested sizes: exact, in proportion, and free of contradictions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unprocessable
from app.pictures.size import Size

SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(), (1200, 2000)),
        (Size(scale=1.5), (450, 750)),
        (Size(width=3840), (2304, 3840)),
        (Size(height=2160), (2160, 3600)),
        (Size(width=3840, height=2160), (2160, 3600)),
        (Size(width=1000, height=2160), (600, 1000)),
        (Size(max_side=4000), (2400, 4000)),
        (Size(megapixels=2.4), (1200, 2000)),
        (Size(width=1), (1, 1)),
        (Size(scale=0.0001), (1, 1)),
    ],
    ids=str,
)
def test_a_picture_of_500_by_300_px_gets(size: Size, expected: tuple[int, int]) -> None:
    assert size.of(300, 500, 4) == expected


@given(height=SIDES, width=SIDES, wanted=SIDES)
def test_a_side_is_exact_and_the_other_one_is_the_nearest_in_proportion(height: int, width: int, wanted: int) -> None:
    made_height, made_width = Size(width=wanted).of(height, width, 4)
    assert made_width == wanted
    assert abs(made_height - max(1, height * wanted / width)) <= 0.5
    assert (made_width, made_height) == Size(height=wanted).of(width, height, 4)
    assert max(Size(max_side=wanted).of(height, width, 4)) == wanted


@given(height=SIDES, width=SIDES, box_height=SIDES, box_width=SIDES)
def test_a_width_and_a_height_are_filled_by_the_largest_picture_that_fits(
    height: int, width: int, box_height: int, box_width: int
) -> None:
    made = Size(width=box_width, height=box_height).of(height, width, 4)
    assert made in (Size(width=box_width).of(height, width, 4), Size(height=box_height).of(height, width, 4))
    assert made[0] <= box_height
    assert made[1] <= box_width


@given(height=st.integers(100, 20_000), width=st.integers(100, 20_000), megapixels=st.floats(0.1, 300))
def test_megapixels_are_as_near_as_whole_sides_allow(height: int, width: int, megapixels: float) -> None:
    made_height, made_width = Size(megapixels=megapixels).of(height, width, 4)
    assert abs(made_height * made_width / 1e6 - megapixels) <= (made_height + made_width + 1) / 2 / 1e6
    assert math.isclose(made_height / made_width, height / width, rel_tol=2 / min(made_height, made_width))


@pytest.mark.parametrize(("side_px", "scale", "scaled"), [(47, 1.5, 71), (5, 1.1, 6), (3, 4, 12)])
def test_sides_are_rounded_with_halves_up(side_px: int, scale: float, scaled: int) -> None:
    assert Size(scale=scale).of(side_px, side_px, 4) == (scaled, scaled)


@pytest.mark.parametrize(
    "values",
    [
        {"scale": 2, "width": 100},
        {"width": 100, "max_side": 100},
        {"width": 1, "height": 1, "megapixels": 2},
        {"scale": 1, "max_side": 5},
    ],
)
def test_contradictions_are_named_with_the_way_out(values: dict[str, int]) -> None:
    with pytest.raises(Unprocessable) as refused:
        Size(**values)
    assert all(f"{name} = {value}" in refused.value.detail for name, value in values.items())
    assert "send one of" in refused.value.detail
