import math
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.model.examples import textured
from training.jpeg import simulate_jpeg
from training.kernels import BlurConfig
from training.realistic import (
    OrderConfig,
    RealisticConfig,
    _add_noise,
    _draw_factor,
    _draw_order,
    _Order,
    degrade_realistically,
)

CPU = torch.device("cpu")
DEFAULT = RealisticConfig()
NOTHING = OrderConfig(
    blur=BlurConfig(probability=0),
    resize_shares=(0, 0, 1),
    gaussian_levels=(0, 0),
    poisson_factor=(0, 0),
    jpeg_quality=(100, 100),
)
"""An order that leaves a picture alone, but for the rounding of the finest JPEG."""


def chance(*seed: int) -> numpy.random.Generator:
    return numpy.random.default_rng(seed or 0)


def batch(count: int, height: int, width: int) -> Tensor:
    return torch.stack([textured(height, width, seed) for seed in range(count)]) / 255


def noisy(pictures: Tensor, *, gaussian: float = 0, poisson: float = 0, grey: bool = False) -> Tensor:
    """Noise of equal parameters on all pictures, as a difference."""
    drawn = [torch.full((len(pictures), 1, 1, 1), value) for value in (gaussian, poisson, float(grey))]
    order = _Order(
        resize_factor=1,
        method="area",
        kernels=torch.zeros(len(pictures), 21, 21),
        gaussian=drawn[0],
        poisson=drawn[1],
        grey=drawn[2],
        quality=torch.ones(len(pictures)),
    )
    return _add_noise(pictures, order, torch.Generator().manual_seed(0)) - pictures


@pytest.mark.parametrize(
    ("scale", "height", "width"), [(1, 24, 16), (2, 24, 40), (3, 18, 18), (4, 32, 20), (4, 11, 13)]
)
def test_the_low_res_pictures_are_smaller_by_the_scale(scale: int, height: int, width: int) -> None:
    for step in range(5):  # several sizes in between
        low_res = degrade_realistically(batch(2, scale * height, scale * width), scale, DEFAULT, chance(0, step))
        assert low_res.shape == (2, 3, height, width)
        assert low_res.dtype == torch.float32


@pytest.mark.parametrize("jpeg_last_probability", [0.0, 1.0])
def test_the_result_holds_levels_of_8_bits(jpeg_last_probability: float) -> None:
    config = RealisticConfig(jpeg_last_probability=jpeg_last_probability)
    low_res = degrade_realistically(batch(4, 64, 64), 4, config, chance())
    assert torch.equal(low_res, (low_res * 255).round() / 255)
    assert low_res.min() >= 0
    assert low_res.max() <= 1


def test_equal_chance_gives_equal_pictures_whatever_torch_drew_before() -> None:
    high_res = batch(2, 64, 64)
    untouched = high_res.clone()
    first = degrade_realistically(high_res, 4, DEFAULT, chance(7, 1))
    torch.rand(1)
    assert torch.equal(degrade_realistically(high_res, 4, DEFAULT, chance(7, 1)), first)
    assert torch.equal(high_res, untouched)


def test_another_step_or_seed_gives_other_pictures() -> None:
    high_res = batch(2, 64, 64)
    first = degrade_realistically(high_res, 4, DEFAULT, chance(7, 1))
    for other in ((7, 2), (8, 1)):
        assert (degrade_realistically(high_res, 4, DEFAULT, chance(*other)) - first).abs().mean() > 1 / 255


def test_the_pictures_of_a_batch_are_degraded_differently() -> None:
    low_res = degrade_realistically(textured(128, 128).expand(6, -1, -1, -1) / 255, 4, DEFAULT, chance())
    roughness = low_res.diff(dim=-1).abs().mean(dim=(1, 2, 3))
    assert len(set(roughness.tolist())) == 6
    assert roughness.max() > 1.2 * roughness.min()


def test_the_mean_colour_of_a_batch_is_kept() -> None:
    tint = torch.tensor([0.8, 0.5, 0.3]).view(3, 1, 1)
    high_res = 0.2 + 0.6 * batch(8, 96, 96) * tint
    for step in range(3):
        low_res = degrade_realistically(high_res, 4, DEFAULT, chance(0, step))
        difference = low_res.mean(dim=(0, 2, 3)) - high_res.mean(dim=(0, 2, 3))
        assert difference.abs().max() < 0.02


def test_a_picture_is_recognisable_but_no_longer_what_plain_reduction_makes() -> None:
    high_res = F.interpolate(batch(8, 32, 32), scale_factor=4, mode="bicubic").clamp(0, 1)
    plain = F.interpolate(high_res, scale_factor=1 / 4, mode="area")
    for step in range(3):
        low_res = degrade_realistically(high_res, 4, DEFAULT, chance(1, step))
        assert (low_res - plain).abs().mean() > 3 / 255
        likeness = torch.corrcoef(torch.stack([low_res.flatten(), plain.flatten()]))[0, 1]
        assert likeness > 0.7


def test_without_blur_noise_and_compression_there_remains_the_resize() -> None:
    config = RealisticConfig(first=NOTHING, second=NOTHING, final_sinc_probability=0)
    high_res = batch(2, 64, 48)[:, :1].expand(-1, 3, -1, -1)  # grey, as even the finest JPEG halves the colours
    low_res = degrade_realistically(high_res, 4, config, chance())
    errors = [
        (low_res - F.interpolate(high_res, scale_factor=1 / 4, mode=method).clamp(0, 1)).abs().mean().item() * 255
        for method in ("area", "bilinear", "bicubic")
    ]
    assert min(errors) < 1
    assert sorted(errors)[1] > 2  # it is one of them, and not the others


@pytest.mark.parametrize("name", ["first", "second"])
def test_each_order_blurs(name: str) -> None:
    calm = RealisticConfig(first=NOTHING, second=NOTHING, final_sinc_probability=0)
    blurring = replace(NOTHING, blur=BlurConfig(sinc_probability=0, sigma_px=(2, 2)))
    blurred = RealisticConfig(**{**vars(calm), name: blurring})
    roughness, untouched = (
        degrade_realistically(batch(4, 64, 64), 4, config, chance()).diff(dim=-1).abs().mean()
        for config in (blurred, calm)
    )
    assert roughness < 0.9 * untouched


@pytest.mark.parametrize("jpeg_is_last", [True, False])
def test_the_second_jpeg_comes_last_or_before_the_resize(jpeg_is_last: bool) -> None:
    coarse = replace(NOTHING, jpeg_quality=(10, 10), resize_shares=(1, 0, 0), resize_factor=(0.5, 1.5))
    config = RealisticConfig(
        first=NOTHING, second=coarse, final_sinc_probability=0, jpeg_last_probability=float(jpeg_is_last)
    )
    low_res = degrade_realistically(batch(2, 128, 128), 4, config, chance())
    again = simulate_jpeg(low_res, torch.tensor([10.0, 10.0]))
    change = (again - low_res).abs().mean().item() * 255
    assert (change < 2) == jpeg_is_last  # what was compressed hardly changes by the same compression


def test_the_last_filter_rings() -> None:
    edge = torch.full((4, 3, 128, 128), 0.3)
    edge[..., 64:] = 0.7
    ringing = RealisticConfig(first=NOTHING, second=NOTHING, final_sinc_probability=1, jpeg_last_probability=0)
    low_res = degrade_realistically(edge, 4, ringing, chance())
    calm = degrade_realistically(edge, 4, replace(ringing, final_sinc_probability=0.0), chance())
    # Even a bicubic resize overshoots beside the edge in column 16, but not two pixels off.
    waves, none = ((pictures[..., :14] - 0.3).abs().amax(dim=(1, 2, 3)) * 255 for pictures in (low_res, calm))
    assert (waves > 2).all()
    assert (none < 1).all()


@pytest.mark.parametrize("sigma", [0.01, 0.06])
def test_gaussian_noise_has_the_deviation_that_was_drawn(sigma: float) -> None:
    noise = noisy(torch.full((1, 3, 128, 128), 0.5), gaussian=sigma)
    assert noise.std().item() == pytest.approx(sigma, rel=0.02)
    assert abs(noise.mean().item()) < 0.02 * sigma


def test_poisson_noise_has_a_variance_that_grows_with_brightness() -> None:
    light = torch.tensor([0.1, 0.3, 0.6]).view(3, 1, 1, 1)
    noise = noisy(light.expand(3, 3, 128, 128), poisson=1.5)
    expected = 1.5**2 * light.flatten() / 256
    torch.testing.assert_close(noise.var(dim=(1, 2, 3)), expected, rtol=0.04, atol=0)
    assert noise.mean().abs() < 1e-3


def test_grey_noise_is_alike_in_the_three_colours() -> None:
    colour = torch.tensor([0.7, 0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, 128, 128)
    for noise in (noisy(colour, gaussian=0.03, grey=True), noisy(colour, poisson=1.0, grey=True)):
        torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), rtol=0, atol=1e-6)
    brightness = 0.299 * 0.7 + 0.587 * 0.5 + 0.114 * 0.3
    assert noise.var().item() == pytest.approx(brightness / 256, rel=0.04)


def test_coloured_noise_is_independent_in_the_three_colours() -> None:
    grey = torch.full((1, 3, 128, 128), 0.5)
    for noise in (noisy(grey, gaussian=0.05), noisy(grey, poisson=1.0)):
        assert (torch.corrcoef(noise[0].flatten(1)) - torch.eye(3)).abs().max() < 0.03


def test_each_picture_draws_its_noise_and_quality_within_the_ranges() -> None:
    config = DEFAULT.first
    order = _draw_order(config, 2000, chance(), CPU)
    gaussian, poisson, quality = order.gaussian.flatten() * 255, order.poisson.flatten(), order.quality
    is_gaussian = gaussian > 0
    assert torch.equal(is_gaussian, poisson == 0)
    assert is_gaussian.double().mean().item() == pytest.approx(0.5, abs=0.04)
    assert order.grey.mean().item() == pytest.approx(0.4, abs=0.04)
    for drawn, (low, high) in (
        (gaussian[is_gaussian], config.gaussian_levels),
        (poisson[~is_gaussian], config.poisson_factor),
        (quality, config.jpeg_quality),
    ):
        slack = 0.01 * (high - low)
        assert low - 1e-4 <= drawn.min() < low + slack
        assert high - slack < drawn.max() <= high + 1e-4
    assert torch.equal(quality, quality.round())


def test_batches_are_reduced_enlarged_and_kept_as_often_as_configured() -> None:
    source = chance()
    factors = numpy.array([_draw_factor(DEFAULT.first, source) for _ in range(3000)])
    assert [(factors > 1).mean(), (factors < 1).mean(), (factors == 1).mean()] == pytest.approx(
        [0.2, 0.7, 0.1], abs=0.03
    )
    assert 0.15 <= factors.min() < 0.16
    assert 1.49 < factors.max() <= 1.5


@pytest.mark.parametrize(
    ("high_res", "complaint"),
    [
        (torch.zeros(3, 64, 64), r"high_res is torch.float32 \(3, 64, 64\); it must be float32 \(N, 3, H, W\)"),
        (torch.zeros(1, 4, 64, 64), "it must be float32"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "high_res is torch.uint8"),
        (torch.zeros(1, 3, 64, 66), "66 x 64 px cannot be reduced by exactly 4; crop it first"),
        (torch.zeros(1, 3, 40, 64), "64 x 40 px is too small; a side needs 44 px at scale 4"),
    ],
)
def test_pictures_that_cannot_be_degraded_are_refused(high_res: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        degrade_realistically(high_res, 4, DEFAULT, chance())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"resize_shares": (0.5, 0.5, 0.5)}, r"resize_shares is \(0.5, 0.5, 0.5\); it must be 3 shares"),
        ({"resize_factor": (0.0, 1.5)}, "resize_factor is 0.0 to 1.5; it must rise and stay within 0.05 to 4"),
        ({"resize_factor": (0.3, 0.9)}, "resize_factor is 0.3 to 0.9; it must contain 1"),
        ({"gaussian_probability": 2}, "gaussian_probability is 2; a probability lies in"),
        ({"gaussian_levels": (-1, 30)}, "gaussian_levels is -1 to 30; it must rise and stay within 0 to 255"),
        ({"poisson_factor": (3, 0.05)}, "poisson_factor is 3 to 0.05; it must rise"),
        ({"poisson_factor": (0, math.nan)}, "poisson_factor is 0 to nan; it must rise"),
        ({"grey_probability": -1}, "grey_probability is -1; a probability lies in"),
        ({"jpeg_quality": (0, 95)}, "jpeg_quality is 0 to 95; it must rise and stay within 1 to 100"),
    ],
)
def test_an_order_refuses_nonsense(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OrderConfig(**values)


@pytest.mark.parametrize("name", ["final_sinc_probability", "jpeg_last_probability"])
def test_a_config_refuses_what_is_no_probability(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 1.1; a probability lies in"):
        RealisticConfig(**{name: 1.1})  # type: ignore[arg-type]  # a dict of floats may name any field
