import io

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.model.examples import textured
from tests.training.photographs import made_pair
from training.damage import (
    DAMAGES,
    PHONE_BLUR_PX,
    PHONE_NOISE_LEVELS,
    PHONE_QUALITY,
    Damage,
    damaged,
    damaged_pair,
)
from training.degrade import shrink_bicubic


def through_jpeg(picture: Tensor, quality: int) -> Tensor:
    """Written with halved colour by Pillow, and read."""
    file = io.BytesIO()
    pixels = picture.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    with Image.open(file) as image:
        return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


def error(one: Tensor, other: Tensor) -> float:
    """Root mean square in levels."""
    return (one.float() - other.float()).square().mean().sqrt().item()


def test_there_are_six_kinds() -> None:
    assert DAMAGES == ("clean", "web75", "web50", "phone", "noisy", "enlarged")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("scale", [2, 4])
def test_every_kind_is_smaller_by_the_scale(damage: Damage, scale: int) -> None:
    low_res = damaged(textured(64, 96), scale, damage, name="a")
    assert (low_res.shape, low_res.dtype) == ((3, 64 // scale, 96 // scale), torch.uint8)


def test_a_clean_picture_is_matlabs_bicubic() -> None:
    assert torch.equal(damaged(textured(64, 96), 4, "clean", name="a"), shrink_bicubic(textured(64, 96), 4))


@pytest.mark.parametrize(("damage", "quality"), [("web75", 75), ("web50", 50)])
def test_a_web_picture_is_a_jpeg_of_the_clean_one(damage: Damage, quality: int) -> None:
    clean = shrink_bicubic(textured(100, 132), 4)
    assert torch.equal(damaged(textured(100, 132), 4, damage, name="a"), through_jpeg(clean, quality))


def test_a_phone_picture_is_blurred_noisy_and_a_jpeg() -> None:
    flat = torch.full((3, 512, 512), 128, dtype=torch.uint8)
    noise = torch.from_numpy(
        numpy.random.default_rng(0).standard_normal((3, 128, 128), dtype=numpy.float32) * PHONE_NOISE_LEVELS
    )
    of_the_same_noise = through_jpeg((flat[:, :128, :128] + noise).round().to(torch.uint8), PHONE_QUALITY)
    assert error(damaged(flat, 4, "phone", name="a"), flat[:, :128, :128]) == pytest.approx(
        error(of_the_same_noise, flat[:, :128, :128]), rel=0.05
    )
    offsets = torch.arange(-10, 11, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * PHONE_BLUR_PX**2))
    line = (line / line.sum()).float()
    wave = (128 + 60 * torch.cos(torch.arange(512) * 2 * torch.pi / 16)).round().expand(3, 512, 512)
    padded = functional.pad(wave[None], [10, 10, 0, 0], mode="reflect")
    blurred = functional.conv2d(padded, line.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)[0]
    expected = shrink_bicubic(blurred.round().to(torch.uint8), 4).float().mean(dim=1)
    phone = (
        damaged(wave.to(torch.uint8), 4, "phone", name="a").float().mean(dim=1)
    )  # the noise of 128 rows averages out
    assert error(phone, expected) < 1.5
    assert error(phone, shrink_bicubic(wave.to(torch.uint8), 4).float().mean(dim=1)) > 5  # which is not blurred


def test_a_noisy_picture_has_noise_of_ten_levels_and_is_a_jpeg() -> None:
    flat = torch.full((3, 512, 512), 128, dtype=torch.uint8)
    noise = torch.from_numpy(numpy.random.default_rng(0).standard_normal((3, 128, 128), dtype=numpy.float32) * 10)
    expected = through_jpeg((flat[:, :128, :128] + noise).round().to(torch.uint8), 85)
    assert error(damaged(flat, 4, "noisy", name="a"), flat[:, :128, :128]) == pytest.approx(
        error(expected, flat[:, :128, :128]), rel=0.05
    )


@pytest.mark.parametrize(("period_px", "is_kept"), [(64, True), (12, False)])
def test_an_enlarged_picture_has_no_detail_that_half_of_its_sides_cannot_hold(period_px: int, is_kept: bool) -> None:
    wave = (128 + 60 * torch.cos(torch.arange(512) * 2 * torch.pi / period_px)).round().expand(3, 512, 512)
    clean = shrink_bicubic(wave.to(torch.uint8), 4)
    contrast = damaged(wave.to(torch.uint8), 4, "enlarged", name="a").float().std() / clean.float().std()
    assert (contrast > 0.8) == is_kept
    assert (contrast < 0.2) != is_kept


def test_an_enlarged_picture_of_odd_sides_is_not_moved() -> None:
    ramp = torch.linspace(20, 230, 4 * 45).round().to(torch.uint8).expand(3, 4 * 33, 4 * 45)
    assert error(damaged(ramp, 4, "enlarged", name="a"), shrink_bicubic(ramp, 4)) < 1


@pytest.mark.parametrize("damage", ["phone", "noisy"])
def test_noise_depends_on_the_name_of_the_picture_alone(damage: Damage) -> None:
    picture = textured(96, 96)
    first = damaged(picture, 4, damage, name="0001")
    torch.rand(1)
    assert torch.equal(damaged(picture, 4, damage, name="0001"), first)
    for other in ("0002", "0001 ", "1000"):
        assert error(damaged(picture, 4, damage, name=other), first) > 2


@pytest.mark.parametrize("damage", ["clean", "web75", "web50", "enlarged"])
def test_the_other_kinds_do_not_depend_on_the_name(damage: Damage) -> None:
    picture = textured(64, 64)
    assert torch.equal(damaged(picture, 4, damage, name="a"), damaged(picture, 4, damage, name="b"))


def test_a_lower_quality_harms_more() -> None:
    clean = shrink_bicubic(textured(128, 128), 4)
    fine, coarse = (error(damaged(textured(128, 128), 4, damage, name="a"), clean) for damage in ("web75", "web50"))
    assert 0 < fine < coarse


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_pair_keeps_its_original_and_its_name(damage: Damage) -> None:
    pair = made_pair(3, height=64, width=64, scale=4)
    made = damaged_pair(pair, damage)
    assert (made.name, made.high_res) == (pair.name, pair.high_res)
    assert torch.equal(made.low_res, damaged(pair.high_res, 4, damage, name=pair.name))
