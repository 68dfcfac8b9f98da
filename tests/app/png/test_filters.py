"""The filters of PNG: the specification's formulas, and compiled code that agrees with numpy."""

from collections.abc import Callable
from typing import cast

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.png import filters as png_filters
from app.png.compiled import compiled
from app.png.filters import Bytes, SampleArray, filter_in_numpy, filter_rows


@pytest.fixture(scope="module")
def in_c() -> None:
    if compiled("filter_rows") is None:
        pytest.skip("nothing is compiled here: `make native`")


def filtered(
    samples: SampleArray,
    above: SampleArray | None,
    how: Callable[[SampleArray, SampleArray | None, Bytes], None] = filter_rows,
) -> Bytes:
    height, width, channels = samples.shape
    result = numpy.full((height, 1 + width * channels * samples.itemsize), 99, numpy.uint8)
    how(samples, above, result)
    return result


def by_the_book(left: int, up: int, up_left: int) -> int:
    guess = left + up - up_left
    return min((left, up, up_left), key=lambda value: abs(guess - value))  # the first of equals, as specified


def test_average_and_paeth_follow_the_specification() -> None:
    values = numpy.array((0, 1, 2, 3, 7, 8, 100, 127, 128, 129, 200, 254, 255), numpy.uint8)
    left, up, up_left = (axis.ravel() for axis in numpy.meshgrid(values, values, values))
    three = list(zip(left.tolist(), up.tolist(), up_left.tolist(), strict=True))
    assert png_filters.paeth(left, up, up_left).tolist() == [by_the_book(*values) for values in three]
    assert png_filters.average(left, up).tolist() == [(left + up) // 2 for left, up, _ in three]


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([[7, 7, 7, 7], [0, 0, 0, 0]], [1, 0]),
        ([[1, 50, 99, 148], [2, 51, 100, 149]], [1, 2]),
        ([[0, 40, 0, 40], [20, 50, 25, 52]], [0, 3]),
        ([[10, 10, 90, 90], [10, 10, 90, 200]], [1, 2]),
        ([[10, 20, 90, 95], [60, 70, 140, 145]], [1, 4]),
    ],
)
def test_a_row_gets_the_filter_that_leaves_least(rows: list[list[int]], chosen: list[int]) -> None:
    samples = numpy.array(rows, numpy.uint8)[..., None]
    assert filtered(samples, None)[:, 0].tolist() == chosen
    assert filtered(samples, None, filter_in_numpy)[:, 0].tolist() == chosen


@pytest.mark.usefixtures("in_c")
@settings(deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 150),
    channels=st.integers(1, 4),
    depth=st.sampled_from((numpy.uint8, numpy.uint16)),
    spread=st.integers(1, 65535),
    top=st.booleans(),
    cut=st.integers(0, 3),
    seed=st.integers(0, 999),
)
def test_compiled_code_and_numpy_make_the_same_bytes(
    height: int,
    width: int,
    channels: int,
    depth: type[numpy.uint8] | type[numpy.uint16],
    spread: int,
    top: bool,
    cut: int,
    seed: int,
) -> None:
    random = numpy.random.default_rng(seed)
    steps = random.integers(-spread, spread + 1, (1 + height, width + cut, channels))
    picture = cast(SampleArray, steps.cumsum(axis=seed % 2).astype(depth))[:, cut:]  # a view with gaps between its rows
    above = None if top else picture[0]
    assert (filtered(picture[1:], above) == filtered(picture[1:], above, filter_in_numpy)).all()


@pytest.mark.usefixtures("in_c")
def test_long_rows_are_summed_without_overflow() -> None:
    samples = numpy.zeros((2, 20_000_000, 1), numpy.uint8)
    samples[:, 1::2] = 255
    samples[1, -1] = 254
    assert filtered(samples, None)[:, 0].tolist() == [0, 2]


def test_rows_that_are_not_contiguous_are_filtered_too() -> None:
    samples = numpy.arange(4 * 5 * 3, dtype=numpy.uint16).reshape(3, 4, 5).transpose(1, 2, 0)
    assert (filtered(samples[1:], samples[0]) == filtered(samples.copy()[1:], samples[0].copy())).all()


def test_without_compiled_code_numpy_filters_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = numpy.random.default_rng(0).integers(0, 256, (50, 30, 3)).astype(numpy.uint8)
    monkeypatch.setattr(png_filters, "compiled", lambda name: None)
    monkeypatch.setattr(png_filters, "BLOCK_BYTES", 300)
    assert (filtered(samples[1:], samples[0]) == filtered(samples[1:], samples[0], filter_in_numpy)).all()
