"""Resizing by rows, against Pillow's resize of the whole picture."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.pictures.picture import Pixels
from app.pictures.resize import FILTER, RowResizer, WrappedResizer


def by_rows(planes: Pixels, target: tuple[int, int], band: int) -> Pixels:
    resizer = RowResizer((planes.shape[1], planes.shape[2]), target)
    return numpy.concatenate(
        [resizer.rows(planes[:, top : top + band]) for top in range(0, planes.shape[1], band)], axis=1
    )


def noise(height: int, width: int, *, most: int = 256, seed: int = 0) -> Pixels:
    kind = numpy.uint8 if most <= 256 else numpy.uint16
    return numpy.random.default_rng(seed).integers(0, most, (1, height, width, 3)).astype(kind)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150), share=st.floats(0.02, 1.5), band=st.integers(1, 50))
def test_noise_of_8_bits_is_resized_as_by_pillow_to_one_level(height: int, width: int, share: float, band: int) -> None:
    planes = noise(height, width)
    target = (max(1, round(share * height)), max(1, round(share * width)))
    wide = Image.fromarray(planes[0]).resize((target[1], height), FILTER)
    whole = wide.resize((target[1], target[0]), FILTER)
    assert numpy.abs(by_rows(planes, target, band)[0].astype(int) - numpy.asarray(whole)).max() <= 1


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 200), width=st.integers(1, 50), share=st.floats(0.02, 1.5), band=st.integers(1, 50))
def test_16_bits_are_resized_as_by_pillow_to_one_level(height: int, width: int, share: float, band: int) -> None:
    planes = noise(height, width, most=65536)
    target = (max(1, round(share * height)), max(1, round(share * width)))
    red = Image.fromarray(planes[0, ..., 0].astype(numpy.float32)).resize((target[1], target[0]), FILTER)
    whole = numpy.asarray(red).round().clip(0, 65535)
    assert numpy.abs(by_rows(planes, target, band)[0, ..., 0] - whole).max() <= 1


@pytest.mark.parametrize("target_height", [19_999, 10_000, 7_777, 333])
def test_rows_far_down_are_as_exact_as_the_first(target_height: int) -> None:
    planes = 100 + noise(20_000, 8) // 5
    whole = Image.fromarray(planes[0]).resize((5, target_height), FILTER)
    made = by_rows(planes, (target_height, 5), 64)
    assert numpy.abs(made[0].astype(int) - numpy.asarray(whole)).max() <= 1


def test_rows_come_out_once_those_within_reach_of_the_filter_have_arrived() -> None:
    planes = noise(400, 6)
    resizer = RowResizer((400, 6), (200, 3))
    made = 0
    for top in range(0, 400, 10):
        made += resizer.rows(planes[:, top : top + 10]).shape[1]
        assert made >= (top + 10) / 2 - 5
    assert made == 200


def test_the_result_of_a_rolled_texture_is_the_rolled_result() -> None:
    planes = noise(40, 60)

    def resized(texture: Pixels) -> Pixels:
        resizer = WrappedResizer((40, 60), (20, 30))
        return numpy.concatenate([resizer.rows(texture[:, top : top + 9]) for top in range(0, 40, 9)], axis=1)

    rolled = resized(numpy.roll(planes, (6, 10), axis=(1, 2)))
    assert numpy.abs(numpy.roll(resized(planes), (3, 5), axis=(1, 2)).astype(int) - rolled).max() <= 1
