import pytest
import torch
from torch import Tensor

from tests.training.test_doctor import sharp
from training.alignment import alignment
from training.damage import damaged
from training.degrade import shrink_bicubic


def photograph(seed: int = 0, height: int = 192, width: int = 256) -> Tensor:
    picture = sharp(height, width, seed)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)


def test_a_reduced_picture_is_where_its_original_is() -> None:
    found = alignment(shrink_bicubic(photograph(), 4), photograph())
    assert found is not None
    assert (found.likeness, found.shift_px) == pytest.approx((1, 0), abs=0.01)
    assert found.problem is None


@pytest.mark.parametrize(("down", "right"), [(4, 0), (0, -8), (-12, 20), (3, 3)])
def test_a_shift_is_measured_in_low_res_pixels(down: int, right: int) -> None:
    high_res = photograph()
    found = alignment(shrink_bicubic(high_res.roll((down, right), (1, 2)), 4), high_res)
    assert found is not None
    assert (found.down, found.right) == pytest.approx((down / 4, right / 4), abs=0.25)
    assert found.problem
    assert "px down (at most 0.5 px)" in found.problem


def test_damage_brightness_and_contrast_do_not_matter() -> None:
    high_res = photograph()
    phone = damaged(high_res, 4, "phone", name="a")
    for low_res in (phone, phone // 2 + 60):
        found = alignment(low_res, high_res)
        assert found is not None
        assert found.problem is None


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_pictures_and_mirrored_ones_are_no_pair(scale: int) -> None:
    high_res = photograph(height=96 * scale, width=120 * scale)
    low_res = shrink_bicubic(high_res, scale)
    for other in (shrink_bicubic(photograph(1, 96 * scale, 120 * scale), scale), low_res.flip(2)):
        found = alignment(other, high_res)
        assert found is not None
        assert found.problem
    same = alignment(low_res, high_res)
    assert same is not None
    assert same.problem is None


def test_a_flat_picture_fits_everywhere() -> None:
    assert alignment(torch.full((3, 16, 16), 90, dtype=torch.uint8), photograph(height=64, width=64)) is None


def test_only_the_middle_of_a_large_picture_is_compared() -> None:
    high_res = photograph(height=100, width=1200)
    low_res = high_res.clone()
    low_res[:, :, :300] = 0
    low_res[:, :, 900:] = 255
    found = alignment(low_res, high_res)
    assert found is not None
    assert found.likeness == pytest.approx(1)
