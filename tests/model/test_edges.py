"""The indices of the pixels beyond the edges of a picture."""

import pytest

from model.edges import check_sides, mirrored, places_in_ring, places_with_margin


def test_a_ring_goes_round_in_both_directions() -> None:
    assert places_in_ring(3, -2, 8) == [1, 2, 0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("length", "margin_px", "multiple", "places"),
    [
        (3, 2, 1, [1, 0, 0, 1, 2, 2, 1]),
        (3, 1, 4, [0, 0, 1, 2, 2, 1, 0, 0]),
        (1, 2, 1, [0, 0, 0, 0, 0]),
        (2, 5, 1, [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]),
    ],
)
def test_a_margin_repeats_the_border_pixel_and_goes_back_and_forth(
    length: int, margin_px: int, multiple: int, places: list[int]
) -> None:
    assert places_with_margin(length, margin_px, multiple) == places


@pytest.mark.parametrize(
    ("length", "multiple", "places"),
    [(3, 4, [0, 1, 2, 1]), (4, 4, [0, 1, 2, 3]), (2, 8, [0, 1, 0, 1, 0, 1, 0, 1]), (1, 4, [0, 0, 0, 0])],
)
def test_a_side_is_mirrored_up_to_a_multiple_without_its_border_pixel(
    length: int, multiple: int, places: list[int]
) -> None:
    assert mirrored(length, multiple) == places


@pytest.mark.parametrize(("height", "width"), [(8, 6), (6, 8)])
def test_a_picture_wraps_only_where_both_sides_are_multiples(height: int, width: int) -> None:
    check_sides((1, 8, 8, 3), 4)
    with pytest.raises(ValueError, match=f"{width} x {height} px are not multiples of 4 px"):
        check_sides((1, height, width, 3), 4)
