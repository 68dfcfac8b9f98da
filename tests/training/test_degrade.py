import math
from pathlib import Path

import numpy
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.model.examples import textured
from training.data import read_picture
from training.degrade import (
    BICUBIC_REACH_PX,
    _cubic,
    _round_to_uint8,
    crop_to_multiple,
    enlarge_bicubic,
    shrink_bicubic,
)


def ramp(size: int, step: int) -> Tensor:
    """Rows that rise by `step` from pixel to pixel, all alike: uint8 RGB (3, size, size)."""
    return (step * torch.arange(size, dtype=torch.uint8)).expand(3, size, size)


@pytest.mark.parametrize(
    ("distance", "weight"),
    [(0, 1), (0.25, 0.8671875), (0.5, 0.5625), (1, 0), (1.25, -0.0703125), (1.5, -0.0625), (2, 0), (2.5, 0), (9, 0)],
)
def test_the_kernel_has_the_values_of_keys_cubic(distance: float, weight: float) -> None:
    assert _cubic(torch.tensor([distance, -distance], dtype=torch.float64)).tolist() == [weight, weight]


def weights_by_hand(size: int, factor: int, *, shrink: bool) -> NDArray[numpy.float64]:
    """The resize of one dimension as a dense matrix, written from the definition of `imresize`."""
    ratio, stretch = (1 / factor, factor) if shrink else (float(factor), 1)
    matrix = numpy.zeros((size // factor if shrink else size * factor, size))
    for row, weights in enumerate(matrix):
        centre = (row + 0.5) / ratio - 0.5
        for place in range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1):
            weight = _cubic(torch.tensor((centre - place) / stretch, dtype=torch.float64)).item() / stretch
            mirrored = place % (2 * size)
            weights[mirrored if mirrored < size else 2 * size - 1 - mirrored] += weight
        weights /= weights.sum()
    return matrix


def resized_by_hand(picture: Tensor, factor: int, *, shrink: bool) -> list[object]:
    rows, columns = (weights_by_hand(size, factor, shrink=shrink) for size in picture.shape[1:])
    tall = numpy.clip(numpy.floor(rows @ picture.numpy() + 0.5), 0, 255)
    wide: list[object] = numpy.clip(numpy.floor(tall @ columns.T + 0.5), 0, 255).astype(int).tolist()
    return wide


def test_the_weights_by_hand_are_those_of_matlab() -> None:
    half = [-0.01171875, -0.03515625, 0.11328125, 0.43359375]
    assert weights_by_hand(16, 2, shrink=True)[3].tolist() == [0, 0, 0, *half, *reversed(half), 0, 0, 0, 0, 0]
    enlarging = weights_by_hand(8, 2, shrink=False)
    assert enlarging[5].tolist() == [0, -0.0703125, 0.8671875, 0.2265625, -0.0234375, 0, 0, 0]
    assert enlarging[0].tolist() == [0.2265625 + 0.8671875, -0.0703125 - 0.0234375, 0, 0, 0, 0, 0, 0]  # mirrored


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 3), (5, 2), (40, 37)])
def test_pictures_are_resized_as_by_dense_weights_bit_for_bit(height: int, width: int, factor: int) -> None:
    picture = textured(height * factor, width * factor)
    assert shrink_bicubic(picture, factor).tolist() == resized_by_hand(picture, factor, shrink=True)
    small = textured(height, width)
    assert enlarge_bicubic(small, factor).tolist() == resized_by_hand(small, factor, shrink=False)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_low_res_pixel_depends_on_nothing_beyond_its_reach(factor: int) -> None:
    picture = textured(16 * factor, 16 * factor)
    near = slice((8 - BICUBIC_REACH_PX) * factor, (9 + BICUBIC_REACH_PX) * factor)
    changed = 255 - picture
    changed[:, near] = picture[:, near]
    assert torch.equal(shrink_bicubic(changed, factor)[:, 8], shrink_bicubic(picture, factor)[:, 8])


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_flat_picture_stays_flat(level: int) -> None:
    flat = torch.full((3, 12, 16), level, dtype=torch.uint8)
    assert shrink_bicubic(flat, 4).tolist() == [[[level] * 4] * 3] * 3
    assert (enlarge_bicubic(flat, 4) == level).all()


def test_a_ramp_shrinks_to_the_ramp_through_its_middles() -> None:
    shrunk = shrink_bicubic(ramp(32, 2), 4)  # the centre of pixel i lies at 4 i + 1.5, where the ramp is 8 i + 3
    assert shrunk[0, 0, 2:-2].tolist() == [8 * i + 3 for i in range(2, 6)]


def test_halves_are_rounded_up() -> None:
    values = torch.tensor([0.5, 1.5, 2.5, 3.49, 254.5], dtype=torch.float64)
    assert _round_to_uint8(values).tolist() == [1, 2, 3, 3, 255]


def test_a_ramp_whose_middles_are_halves_is_rounded_up() -> None:
    shrunk = shrink_bicubic(ramp(16, 1), 2)  # the middles are 2 i + 0.5
    assert shrunk[0, 0, 2:-2].tolist() == [2 * i + 1 for i in range(2, 6)]


def test_each_dimension_is_rounded_before_the_next() -> None:
    slope = ramp(16, 1) + ramp(16, 1).transpose(1, 2)
    shrunk = shrink_bicubic(slope, 2)  # 2 i + 2 j + 1 without the rounding in between
    assert [shrunk[0, i, i].item() for i in range(2, 6)] == [4 * i + 2 for i in range(2, 6)]


def test_overshoot_next_to_an_edge_is_clamped() -> None:
    edge = torch.zeros(3, 8, 8, dtype=torch.uint8)
    edge[:, :, 4:] = 255
    enlarged = enlarge_bicubic(edge, 4)
    assert enlarged[:, :, :12].max() == 0
    assert enlarged[:, :, 20:].min() == 255


def test_rows_and_columns_are_not_mixed_up() -> None:
    picture = textured(24, 16)
    assert shrink_bicubic(picture, 4).shape == (3, 6, 4)
    assert enlarge_bicubic(picture, 2).shape == (3, 48, 32)


@pytest.mark.parametrize(("height", "width"), [(9, 8), (8, 9), (3, 3)])
def test_a_size_that_does_not_divide_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{width} x {height} px cannot be reduced by exactly 4; crop it first"):
        shrink_bicubic(torch.zeros(3, height, width, dtype=torch.uint8), 4)


def test_cropping_to_a_multiple_drops_rows_below_and_columns_at_the_right() -> None:
    picture = textured(11, 14)
    assert torch.equal(crop_to_multiple(picture, 4), picture[:, :8, :12])


def test_the_low_res_pictures_of_set5_are_reproduced_bit_for_bit(shared_folder: Path) -> None:
    files = sorted((shared_folder / "bench" / "Set5" / "HR").iterdir())
    assert len(files) == 5
    for file in files:
        published = read_picture(shared_folder / "bench" / "Set5" / "LRbicX4" / file.name)
        assert torch.equal(shrink_bicubic(crop_to_multiple(read_picture(file), 4), 4), published), file.name
