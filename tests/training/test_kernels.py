import math
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from training.kernels import (
    KERNEL_PX,
    RADIUS_PX,
    BlurConfig,
    _draw_beta,
    blur,
    draw_blur_kernels,
    gaussian_kernels,
    plateau_kernels,
    sinc_kernels,
)

OFFSET = torch.arange(-RADIUS_PX, RADIUS_PX + 1, dtype=torch.float64)


def chance(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def number(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def gaussian(sigma: tuple[float, float], angle: float = 0, beta: float = 1, size_px: int = KERNEL_PX) -> Tensor:
    sigmas = torch.tensor([sigma], dtype=torch.float64)
    return gaussian_kernels(sigmas, number(angle), number(beta), torch.tensor([size_px]))[0]


def pulse() -> Tensor:
    kernel = torch.zeros(KERNEL_PX, KERNEL_PX)
    kernel[RADIUS_PX, RADIUS_PX] = 1
    return kernel


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
def test_the_second_moments_of_an_isotropic_gaussian_are_sigma_squared(sigma: float) -> None:
    kernel = gaussian((sigma, sigma))
    for moment in ((kernel * OFFSET**2).sum(), (kernel * OFFSET[:, None] ** 2).sum()):
        assert moment.item() == pytest.approx(sigma**2, rel=5e-3)


def test_an_anisotropic_gaussian_is_long_in_the_direction_of_its_angle() -> None:
    long, short, angle = 2.0, 1.0, 0.5
    kernel = gaussian((long, short), angle)
    cosine, sine = math.cos(angle), math.sin(angle)
    xx = (kernel * OFFSET**2).sum().item()
    yy = (kernel * OFFSET[:, None] ** 2).sum().item()
    xy = (kernel * OFFSET * OFFSET[:, None]).sum().item()
    assert xx == pytest.approx(cosine**2 * long**2 + sine**2 * short**2, rel=1e-3)
    assert yy == pytest.approx(sine**2 * long**2 + cosine**2 * short**2, rel=1e-3)
    assert xy == pytest.approx(cosine * sine * (long**2 - short**2), rel=1e-3)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_beta_shapes_the_fall_of_both_families(beta: float) -> None:
    sigma, steps = 1.5, torch.arange(4)
    squared = (steps / sigma) ** 2
    generalised = gaussian((sigma, sigma), beta=beta)[RADIUS_PX, RADIUS_PX + steps]
    sigmas = torch.full((1, 2), sigma, dtype=torch.float64)
    plateau = plateau_kernels(sigmas, number(0), number(beta), torch.tensor([KERNEL_PX]))[0, RADIUS_PX]
    torch.testing.assert_close(generalised / generalised[0], torch.exp(-(squared**beta) / 2).double())
    torch.testing.assert_close(plateau[RADIUS_PX + steps] / plateau[RADIUS_PX], 1 / (1 + squared**beta).double())


def bessel_j1(z: float) -> float:
    """Its power series (Abramowitz and Stegun, 9.1.10)."""
    return sum((-1.0) ** k * (z / 2) ** (2 * k + 1) / (math.factorial(k) * math.factorial(k + 1)) for k in range(40))


def test_a_sinc_filter_follows_the_bessel_function() -> None:
    cutoff = 1.3
    row = sinc_kernels(number(cutoff), torch.tensor([KERNEL_PX]))[0, RADIUS_PX, RADIUS_PX:]
    centre = cutoff**2 / (4 * math.pi)
    expected = [1] + [cutoff * bessel_j1(cutoff * r) / (2 * math.pi * r) / centre for r in range(1, RADIUS_PX + 1)]
    assert (row / row[0]).tolist() == pytest.approx(expected, abs=1e-6)  # torch's own is good to 2e-7


def test_a_sinc_filter_passes_frequencies_below_its_cutoff_only() -> None:
    cutoff = math.pi / 2
    profile = sinc_kernels(number(cutoff), torch.tensor([KERNEL_PX]))[0].sum(dim=0)

    def passed(frequency: float) -> float:
        return (profile * torch.cos(frequency * OFFSET)).sum().item()

    assert [passed(share * cutoff) for share in (0.25, 0.5, 0.75)] == pytest.approx([1, 1, 1], abs=0.1)
    assert [passed(share * cutoff) for share in (1.25, 1.5, 1.75)] == pytest.approx([0, 0, 0], abs=0.1)


@pytest.mark.parametrize("size_px", [7, 13, 21])
def test_a_kernel_fills_the_square_of_its_size_and_no_more(size_px: int) -> None:
    kernel = gaussian((9, 9), size_px=size_px)
    margin = (KERNEL_PX - size_px) // 2
    inside = kernel[margin : KERNEL_PX - margin, margin : KERNEL_PX - margin]
    assert (inside > 0).all()
    assert inside.sum().item() == pytest.approx(1)
    assert kernel.count_nonzero() == size_px**2


@pytest.mark.parametrize("sinc_probability", [0.0, 1.0])
def test_every_drawn_kernel_sums_to_1_and_moves_nothing(sinc_probability: float) -> None:
    kernels = draw_blur_kernels(BlurConfig(sinc_probability=sinc_probability), 300, chance())
    assert kernels.dtype == torch.float32
    assert kernels.shape == (300, KERNEL_PX, KERNEL_PX)
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(300))
    torch.testing.assert_close(kernels, kernels.flip(1, 2))


def test_equal_chance_draws_equal_kernels_and_every_picture_gets_its_own() -> None:
    kernels = draw_blur_kernels(BlurConfig(), 8, chance())
    assert torch.equal(kernels, draw_blur_kernels(BlurConfig(), 8, chance()))
    assert not torch.equal(kernels, draw_blur_kernels(BlurConfig(), 8, chance(1)))
    assert len({tuple(kernel.flatten().tolist()) for kernel in kernels}) == 8


@pytest.mark.parametrize("family", range(6))
def test_families_of_even_number_are_isotropic_and_the_others_are_not(family: int) -> None:
    shares = tuple(float(place == family) for place in range(6))
    kernels = draw_blur_kernels(BlurConfig(family_shares=shares, sinc_probability=0, sigma_px=(1, 3)), 20, chance())
    is_turned = [torch.allclose(kernel, kernel.rot90(), atol=1e-6) for kernel in kernels]
    assert is_turned == [family % 2 == 0] * 20


def test_a_drawn_gaussian_has_the_sigma_of_the_config() -> None:
    config = BlurConfig(family_shares=(1, 0, 0, 0, 0, 0), sinc_probability=0, sigma_px=(0.8, 0.8))
    moments = (draw_blur_kernels(config, 20, chance()) * OFFSET**2).sum(dim=(1, 2))
    assert moments.tolist() == pytest.approx([0.64] * 20, rel=0.02)


def test_half_of_the_betas_lie_below_1() -> None:
    betas = _draw_beta((0.5, 4), 4000, chance())
    assert 0.5 <= betas.min() < 0.51
    assert 3.95 < betas.max() <= 4
    assert (betas < 1).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_as_many_pictures_are_blurred_as_the_probability_says() -> None:
    is_pulse = (draw_blur_kernels(BlurConfig(probability=0.8), 2000, chance()) == pulse()).all(dim=(1, 2))
    # A Gaussian of 0.2 px is nearly a pulse, but in float32 still not one.
    assert is_pulse.double().mean().item() == pytest.approx(0.2, abs=0.03)


def test_a_pulse_leaves_a_picture_as_it_was_but_for_rounding() -> None:
    pictures = 255 * torch.rand(2, 3, 11, 17)
    torch.testing.assert_close(blur(pictures, pulse().expand(2, -1, -1)), pictures, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(12, 15), (11, 11), (16, 24), (13, 64)])
def test_each_picture_is_convolved_with_its_own_kernel_and_mirrored_at_the_border(height: int, width: int) -> None:
    pictures, kernels = torch.rand(2, 3, height, width), torch.rand(2, KERNEL_PX, KERNEL_PX) / KERNEL_PX**2
    padding = ((0, 0), (0, 0), (RADIUS_PX, RADIUS_PX), (RADIUS_PX, RADIUS_PX))
    mirrored = numpy.pad(pictures.numpy(), padding, mode="reflect")
    turned = kernels.flip(1, 2).numpy()  # a convolution turns the kernel
    expected = sum(
        turned[:, row, column][:, None, None, None] * mirrored[:, :, row : row + height, column : column + width]
        for row in range(KERNEL_PX)
        for column in range(KERNEL_PX)
    )
    torch.testing.assert_close(blur(pictures, kernels), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_a_flat_picture_stays_flat_under_every_kernel() -> None:
    kernels = draw_blur_kernels(BlurConfig(), 20, chance())
    pictures = torch.full((20, 3, 24, 31), 255.0)
    torch.testing.assert_close(blur(pictures, kernels), pictures, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"probability": 1.5}, "probability is 1.5; a probability lies in"),
        ({"sinc_probability": -0.1}, "sinc_probability is -0.1; a probability lies in"),
        ({"sinc_probability": math.nan}, "sinc_probability is nan; a probability lies in"),
        ({"family_shares": (0.5, 0.5)}, r"family_shares is \(0.5, 0.5\); it must be 6 shares"),
        ({"family_shares": (0.5, 0.6, 0, 0, 0, 0)}, "with a sum of 1"),
        ({"family_shares": (1.5, -0.5, 0, 0, 0, 0)}, "none negative"),
        ({"sigma_px": (3, 0.2)}, "sigma_px is 3 to 0.2; it must rise and stay within 0.01 to 21"),
        ({"sigma_px": (0, 3)}, "sigma_px is 0 to 3; it must rise and stay within 0.01 to 21"),
        ({"gaussian_beta": (1.5, 4)}, "gaussian_beta is 1.5 to 4; it must contain 1"),
        ({"plateau_beta": (0, 2)}, "plateau_beta is 0 to 2; it must rise and stay within 0.1 to 10"),
    ],
)
def test_a_config_refuses_nonsense(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        BlurConfig(**values)
