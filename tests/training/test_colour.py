import pytest
import torch
from torch import Tensor

from tests.model.examples import textured
from training.colour import colour_shift, lab
from training.degrade import enlarge_bicubic, shrink_bicubic


def flat(red: int, green: int, blue: int, *, height: int = 8, width: int = 12) -> Tensor:
    return torch.tensor([red, green, blue], dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()


def noisy(picture: Tensor, deviation: float) -> Tensor:
    """With independent Gaussian noise in every pixel and channel."""
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    return (picture + deviation * noise).round().clamp(0, 255).byte()


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),  # linear 0.1845, nearly the 0.1842 of L* = 50
        ((2, 2, 2), (0.55, 0.0, 0.0)),  # 903.3 * 2 / 255 / 12.92: both curves begin as straight lines
    ],
)
def test_known_colours_lie_where_cielab_has_them(
    rgb: tuple[int, int, int], expected: tuple[float, float, float]
) -> None:
    assert lab(flat(*rgb))[:, 3, 5].tolist() == pytest.approx(expected, abs=0.01)


def test_every_pixel_is_converted_by_itself() -> None:
    picture = textured(6, 9)
    whole = lab(picture)
    assert whole.shape == (3, 6, 9)
    torch.testing.assert_close(whole[:, 4:5, 7:8], lab(picture[:, 4:5, 7:8]))


def test_a_picture_that_is_only_larger_has_no_shift() -> None:
    assert colour_shift(flat(90, 120, 40, height=32, width=48), flat(90, 120, 40)) == 0


def test_the_bicubic_enlargement_keeps_the_colours() -> None:
    low_res = shrink_bicubic(textured(128, 160), 4)
    assert colour_shift(enlarge_bicubic(low_res, 4), low_res) < 0.5


def test_a_tint_counts_as_its_distance_in_cielab() -> None:
    tinted, original = flat(130, 119, 119, height=32, width=48), flat(119, 119, 119)
    distance = (lab(tinted)[:, 0, 0] - lab(original)[:, 0, 0]).norm().item()
    assert distance == pytest.approx(5.5, abs=1)
    assert colour_shift(tinted, original) == pytest.approx(distance)


def test_half_of_a_picture_with_a_tint_counts_half() -> None:
    original = flat(119, 119, 119, height=32, width=64)
    tinted = flat(119, 119, 119, height=128, width=256)
    tinted[0, :, 128:] = 150
    whole = colour_shift(flat(150, 119, 119, height=128, width=256), original)
    assert colour_shift(tinted, original) == pytest.approx(whole / 2, rel=0.05)


def test_a_tint_is_seen_beneath_the_detail() -> None:
    high_res = textured(128, 160).clamp(20, 200)
    low_res = shrink_bicubic(high_res, 4)
    tinted = high_res.clone()
    tinted[2] += 25
    assert colour_shift(tinted, low_res) > 10 * colour_shift(high_res, low_res)


def test_fine_noise_hardly_counts() -> None:
    grey = flat(119, 119, 119, height=64, width=64)
    assert (lab(noisy(grey, 12)) - lab(grey)).norm(dim=0).mean() > 5  # every pixel for itself is far off
    assert colour_shift(noisy(grey, 12), flat(119, 119, 119, height=16, width=16)) < 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 9), (7, 5)])
def test_small_and_odd_pictures_are_measured_too(height: int, width: int) -> None:
    low_res = flat(119, 119, 119, height=height, width=width)
    tinted = flat(150, 119, 119, height=4 * height, width=4 * width)
    expected = (lab(tinted) - lab(enlarge_bicubic(low_res, 4))).norm(dim=0).mean().item()
    assert colour_shift(tinted, low_res) == pytest.approx(expected)
