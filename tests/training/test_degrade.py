from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.examples import textured
from training.data import read_picture
from training.degrade import (
    _cubic,
    _resampling_matrix,
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


def test_enlarging_by_2_weighs_four_pixels() -> None:
    row = _resampling_matrix(8, 2, shrink=False)[5]  # its centre lies at 2.25
    assert row.tolist() == [0, -0.0703125, 0.8671875, 0.2265625, -0.0234375, 0, 0, 0]


def test_shrinking_by_2_weighs_eight_pixels_with_the_kernel_stretched() -> None:
    row = _resampling_matrix(16, 2, shrink=True)[3]  # its centre lies at 6.5
    half = [-0.01171875, -0.03515625, 0.11328125, 0.43359375]
    assert row.tolist() == [0, 0, 0, *half, *reversed(half), 0, 0, 0, 0, 0]


def test_the_border_is_mirrored_with_its_edge_pixel() -> None:
    row = _resampling_matrix(8, 2, shrink=False)[0]  # centre -0.25: pixels -2, -1, 0, 1 are 1, 0, 0, 1
    assert row.tolist() == [0.2265625 + 0.8671875, -0.0703125 - 0.0234375, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_every_row_of_weights_sums_to_one(factor: int, shrink: bool) -> None:
    sums = _resampling_matrix(12, factor, shrink).sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


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


def test_overshoot_beside_an_edge_is_clamped() -> None:
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
