import pytest
import torch
from torch import Tensor

from training.grain import WINDOW_PX, grain


@pytest.fixture
def sky() -> Tensor:
    """A picture whose upper half is smooth, and whose lower half is noise of high contrast."""
    chance = torch.Generator().manual_seed(1)
    picture = torch.full((3, 96, 80), 120)
    picture[:, 48:] = torch.randint(0, 256, (3, 48, 80), generator=chance)
    return picture.byte()


def with_noise(picture: Tensor, levels: float, rows: slice) -> Tensor:
    noise = levels * torch.randn(picture.shape, generator=torch.Generator().manual_seed(2))
    noisy = picture.float()
    noisy[:, rows] += noise[:, rows]
    return noisy.round().clamp(0, 255).byte()


def test_equal_pictures_have_no_grain(sky: Tensor) -> None:
    assert grain(sky, sky) == 0


@pytest.mark.parametrize("levels", [4.0, 8.0])
def test_noise_on_a_sky_is_measured_in_its_levels(sky: Tensor, levels: float) -> None:
    measured = grain(with_noise(sky, levels, slice(0, 48)), sky)
    assert measured == pytest.approx(levels, rel=0.05)


def test_noise_in_texture_does_not_count(sky: Tensor) -> None:
    beyond = slice(48 + WINDOW_PX // 2, None)
    assert grain(with_noise(sky, 30.0, beyond), sky) == pytest.approx(0, abs=0.1)


def test_another_tone_is_no_grain(sky: Tensor) -> None:
    brighter = (sky.float() + 9).clamp(max=255).byte()
    assert grain(brighter, sky) == pytest.approx(0, abs=0.1)


def test_a_picture_that_is_nowhere_smooth_has_none(sky: Tensor) -> None:
    texture = sky[:, 48:]
    assert grain(texture, texture) is None
