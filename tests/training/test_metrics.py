import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.examples import textured
from training import metrics
from training.degrade import enlarge_bicubic
from training.evaluate import pairs_to_measure
from training.metrics import luma, psnr_y, ssim_y


def plain(red: int, green: int, blue: int, size: int = 16) -> Tensor:
    """A picture of one colour: uint8 RGB (3, size, size)."""
    return torch.tensor([red, green, blue], dtype=torch.uint8)[:, None, None].repeat(1, size, size)


@pytest.mark.parametrize(
    ("colour", "y"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81),  # 16 + 65.481
        ((0, 255, 0), 145),  # 16 + 128.553
        ((0, 0, 255), 41),  # 16 + 24.966
        ((100, 150, 200), 137),  # 16 + 25.679 + 75.619 + 19.581
    ],
)
def test_luma_is_that_of_bt_601(colour: tuple[int, int, int], y: int) -> None:
    assert luma(plain(*colour)).unique().tolist() == [y]


def test_psnr_of_black_against_white_is_that_of_219_levels() -> None:
    decibels = psnr_y(plain(0, 0, 0), plain(255, 255, 255), border=0)
    assert decibels == pytest.approx(20 * math.log10(255 / 219))


def test_psnr_takes_the_mean_of_the_squares() -> None:
    reference = plain(0, 0, 0)
    picture = reference.clone()
    picture[:, :8] = 255  # half of the pixels are 219 levels off
    assert psnr_y(picture, reference, border=0) == pytest.approx(10 * math.log10(255**2 / (219**2 / 2)))


def test_psnr_of_equal_pictures_is_infinite() -> None:
    picture = textured(16, 16)
    assert psnr_y(picture, picture, border=4) == math.inf


@pytest.mark.parametrize("measure", [psnr_y, ssim_y])
def test_the_border_does_not_count(measure: object) -> None:
    reference = textured(24, 32)
    picture = reference.clone()
    picture[:, :4] = picture[:, -4:] = 0
    picture[:, :, :4] = picture[:, :, -4:] = 0
    assert callable(measure)
    assert measure(picture, reference, border=4) == measure(reference, reference, border=4)
    assert measure(picture, reference, border=3) < measure(reference, reference, border=3)


@pytest.mark.parametrize("measure", [psnr_y, ssim_y])
def test_pictures_of_different_sizes_are_not_compared(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match=r"cannot compare \(3, 16, 16\) with \(3, 16, 17\)"):
        measure(textured(16, 16), textured(16, 17), border=0)


def test_ssim_of_equal_pictures_is_one() -> None:
    picture = textured(20, 20)
    assert ssim_y(picture, picture, border=0) == pytest.approx(1, abs=1e-12)


def test_ssim_of_flat_pictures_compares_their_means() -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * 16 * 235 + c1) / (16**2 + 235**2 + c1)
    assert ssim_y(plain(0, 0, 0), plain(255, 255, 255), border=0) == pytest.approx(expected)


def test_ssim_of_one_window_is_the_formula_of_its_authors() -> None:
    picture, reference = textured(11, 11, seed=1), textured(11, 11, seed=2)
    bell = [math.exp(-(offset**2) / (2 * 1.5**2)) for offset in range(-5, 6)]
    weights = [one * other / sum(bell) ** 2 for one in bell for other in bell]
    a, b = (luma(image).flatten().tolist() for image in (picture, reference))

    def average(values: list[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    mean_a, mean_b = average(a), average(b)
    variance_a, variance_b = average([(x - mean_a) ** 2 for x in a]), average([(y - mean_b) ** 2 for y in b])
    covariance = average([(x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)])
    c1, c2 = 6.5025, 58.5225
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    assert ssim_y(picture, reference, border=0) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [psnr_y, ssim_y])
def test_the_strips_of_a_high_picture_are_measured_like_the_whole(
    measure: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, reference = torch.randint(
        0, 256, (2, 3, 212, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    in_strips = measure(picture, reference, border=4)
    monkeypatch.setattr(metrics, "STRIP_ROWS", 10**6)
    assert in_strips == pytest.approx(measure(picture, reference, border=4), abs=1e-9)


def test_ssim_of_a_pattern_against_its_negative_is_negative() -> None:
    checks = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255).byte().repeat(3, 1, 1)
    assert ssim_y(checks, 255 - checks, border=0) < -0.9


def test_bicubic_reaches_its_published_psnr_on_set5(shared_folder: Path) -> None:
    pairs = list(pairs_to_measure(shared_folder / "bench" / "Set5", 4))
    scores = [psnr_y(enlarge_bicubic(pair.low_res, 4), pair.high_res, border=4) for pair in pairs]
    assert sum(scores) / 5 == pytest.approx(28.42, abs=0.02)


def test_bicubic_reaches_its_published_ssim_on_set5(shared_folder: Path) -> None:
    pairs = list(pairs_to_measure(shared_folder / "bench" / "Set5", 4))
    scores = [ssim_y(enlarge_bicubic(pair.low_res, 4), pair.high_res, border=4) for pair in pairs]
    assert sum(scores) / 5 == pytest.approx(0.8104, abs=0.001)
