import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from training.loss_config import AdversarialKind
from training.losses import (
    ADVERSARIAL_LOSSES,
    PIXEL_LOSSES,
    artefact_loss,
    charbonnier_loss,
    flat_loss,
    fourier_loss,
    l1_loss,
    l2_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)

REAL = (0.8, -0.3, 1.7)
FAKE = (-0.5, 0.4, 2.1)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def more_real(verdict: float, others: Sequence[float]) -> float:
    """D(x, y) of the paper: the probability that a picture is more real than the others are on average."""
    return sigmoid(verdict - mean(others))


def column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None]


def test_l1_is_the_mean_absolute_difference() -> None:
    upscaled = torch.tensor([0.1, 0.5, 0.9, 1.2])
    high_res = torch.tensor([0.3, 0.5, 0.8, 0.5])
    assert l1_loss(upscaled, high_res).item() == pytest.approx((0.2 + 0 + 0.1 + 0.7) / 4)


def test_flat_loss_is_the_mean_square_of_every_pixels_distance_from_its_colour() -> None:
    colours = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])

    def upscale(flat: Tensor) -> Tensor:
        enlarged = flat.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return enlarged + torch.tensor([0.0, 0.1, -0.2, 0.0]).view(2, 2)

    assert flat_loss(upscale, colours).item() == pytest.approx((0.1**2 + 0.2**2) / 4)


def test_the_discriminators_loss_is_the_papers_equation() -> None:
    told_real = mean([math.log(more_real(x, FAKE)) for x in REAL])
    told_fake = mean([math.log(1 - more_real(x, REAL)) for x in FAKE])
    loss = relativistic_discriminator_loss(column(REAL), column(FAKE))
    assert loss.item() == pytest.approx(-told_real - told_fake, rel=1e-6)


def test_the_generators_loss_is_the_papers_equation_with_both_halves() -> None:
    real_half = mean([math.log(1 - more_real(x, FAKE)) for x in REAL])
    fake_half = mean([math.log(more_real(x, REAL)) for x in FAKE])
    loss = relativistic_generator_loss(column(REAL), column(FAKE))
    assert loss.item() == pytest.approx(-real_half - fake_half, rel=1e-6)


def test_the_generators_gradient_comes_through_both_halves() -> None:
    fake = column(FAKE).requires_grad_()
    relativistic_generator_loss(column(REAL), fake).backward()
    # -log(1 - D) and -log D of a sigmoid D have the derivatives D and D - 1; E[C(fake)] moves by 1/3 of each verdict.
    through_the_mean = -mean([more_real(x, FAKE) for x in REAL])
    by_hand = [(through_the_mean + more_real(x, REAL) - 1) / 3 for x in FAKE]
    assert fake.grad is not None
    assert fake.grad[:, 0].tolist() == pytest.approx(by_hand, rel=1e-5)


def test_the_discriminators_gradient_comes_through_both_halves() -> None:
    real = column(REAL).requires_grad_()
    relativistic_discriminator_loss(real, column(FAKE)).backward()
    through_the_mean = -mean([more_real(x, REAL) for x in FAKE])
    by_hand = [(through_the_mean + more_real(x, FAKE) - 1) / 3 for x in REAL]
    assert real.grad is not None
    assert real.grad[:, 0].tolist() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("loss", [relativistic_discriminator_loss, relativistic_generator_loss])
def test_a_verdict_on_every_pixel_is_averaged_over_all_of_them(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    chance = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 2, 1, 3, 5, generator=chance)
    torch.testing.assert_close(loss(real, fake), loss(real.reshape(30, 1), fake.reshape(30, 1)))


@pytest.mark.parametrize(
    ("loss", "real", "fake"),
    [(relativistic_discriminator_loss, -1000.0, 1000.0), (relativistic_generator_loss, 1000.0, -1000.0)],
)
def test_a_verdict_that_is_wrong_by_far_still_has_a_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], real: float, fake: float
) -> None:
    one, other = torch.full((2, 1), real, requires_grad=True), torch.full((2, 1), fake, requires_grad=True)
    value = loss(one, other)
    value.backward()
    assert value.item() == 4000  # -log sigmoid(-2000), twice
    assert one.grad is not None
    assert other.grad is not None
    towards = 1.0 if real > fake else -1.0
    assert one.grad.flatten().tolist() == [towards, towards]
    assert other.grad.flatten().tolist() == [-towards, -towards]


@pytest.mark.parametrize(
    ("loss", "real", "fake"),
    [(relativistic_discriminator_loss, 1000.0, -1000.0), (relativistic_generator_loss, -1000.0, 1000.0)],
)
def test_a_verdict_that_is_right_by_far_costs_nothing(
    loss: Callable[[Tensor, Tensor], Tensor], real: float, fake: float
) -> None:
    assert loss(torch.full((2, 1), real), torch.full((2, 1), fake)).item() == 0


@pytest.mark.parametrize("loss", [l1_loss, relativistic_discriminator_loss, relativistic_generator_loss])
def test_bfloat16_is_computed_in_float32(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    chance = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 5, 7, generator=chance).bfloat16()
    value = loss(one, other)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(one.float(), other.float()))


def test_l1_compares_bfloat16_with_float32_in_float32() -> None:
    chance = torch.Generator().manual_seed(2)
    upscaled, high_res = torch.rand(2, 5, 7, generator=chance)
    rounded = upscaled.bfloat16()
    assert torch.equal(l1_loss(rounded, high_res), (rounded.float() - high_res).abs().mean())


# Losses of pixels


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        (l2_loss, (0.2**2 + 0 + 0.1**2 + 0.7**2) / 4),
        (charbonnier_loss, sum(math.sqrt(difference**2 + 1e-6) for difference in (0.2, 0, 0.1, 0.7)) / 4),
    ],
)
def test_other_means_of_differences(loss: Callable[[Tensor, Tensor], Tensor], by_hand: float) -> None:
    upscaled, high_res = torch.tensor([0.1, 0.5, 0.9, 1.2]), torch.tensor([0.3, 0.5, 0.8, 0.5])
    assert loss(upscaled, high_res).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_charbonnier_loss_has_a_slope_of_zero_where_nothing_differs() -> None:
    upscaled = torch.full((2, 3), 0.5, requires_grad=True)
    charbonnier_loss(upscaled, torch.full((2, 3), 0.5)).backward()
    assert upscaled.grad is not None
    assert not upscaled.grad.any()


def test_the_fourier_loss_of_a_wave_is_at_its_frequency() -> None:
    # cos(2 pi x / 8) over 4 x 8 px has one value in half of an orthonormal spectrum: 4 * 8 / 2 / sqrt(4 * 8).
    wave = torch.cos(2 * math.pi * torch.arange(8) / 8).expand(1, 1, 4, 8)
    values = 4 * 5 * 2  # rows, frequencies from 0 to 4, real and imaginary parts
    assert fourier_loss(wave, torch.zeros(1, 1, 4, 8)).item() == pytest.approx(math.sqrt(8) / values, rel=1e-5)


@pytest.mark.parametrize("loss", PIXEL_LOSSES.values(), ids=PIXEL_LOSSES)
def test_every_loss_of_pixels_is_computed_in_float32(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, other = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    value = loss(one, other)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(one.float(), other.float()))


# LDL's map of artefacts


def noise(seed: int) -> Tensor:
    return torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(seed))


def artefact_map_by_hand(upscaled: Tensor, averaged: Tensor, high_res: Tensor) -> Tensor:
    """Each pixel's weight, (N, 1, H, W): the paper's equations, one pixel at a time."""
    error = (high_res - upscaled).abs().sum(1)
    of_average = (high_res - averaged).abs().sum(1)
    weights = torch.zeros(2, 1, 9, 11)
    for picture in range(2):
        spread = error[picture].flatten().var().item() ** (1 / 5)
        for row in range(9):
            for column in range(11):
                rows = [mirror(row + step, 9) for step in range(-3, 4)]
                columns = [mirror(column + step, 11) for step in range(-3, 4)]
                window = error[picture][rows][:, columns]
                if error[picture, row, column] >= of_average[picture, row, column]:
                    weights[picture, 0, row, column] = spread * window.flatten().var()
    return weights


def mirror(place: int, side: int) -> int:
    return abs(place) if place < side else 2 * (side - 1) - place


def test_the_artefact_loss_weights_errors_by_how_much_they_vary() -> None:
    upscaled, averaged, high_res = noise(1), noise(2), noise(3)
    weights = artefact_map_by_hand(upscaled, averaged, high_res)
    assert 0.3 < (weights == 0).float().mean() < 0.7
    by_hand = (weights * (upscaled - high_res).abs()).mean().item()
    assert artefact_loss(upscaled, averaged, high_res).item() == pytest.approx(by_hand, rel=1e-4)


def test_nothing_is_an_artefact_where_the_average_is_farther_from_the_original() -> None:
    upscaled, high_res = noise(1), noise(3)
    assert artefact_loss(upscaled, high_res + 2 * (upscaled - high_res), high_res) == 0
    assert artefact_loss(upscaled, high_res, high_res) > 0


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_an_error_that_is_the_same_everywhere_is_no_artefact_and_has_a_finite_gradient(shift: float) -> None:
    high_res = torch.full((1, 3, 8, 8), 0.5)
    upscaled = (high_res + shift).requires_grad_()
    loss = artefact_loss(upscaled, high_res, high_res)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert upscaled.grad is not None
    assert upscaled.grad.isfinite().all()


# Adversarial losses of other kinds


def test_the_vanilla_losses_are_cross_entropies() -> None:
    told = mean([math.log(sigmoid(x)) for x in REAL]) + mean([math.log(1 - sigmoid(x)) for x in FAKE])
    vanilla = ADVERSARIAL_LOSSES["vanilla"]
    assert vanilla.discriminator(column(REAL), column(FAKE)).item() == pytest.approx(-told, rel=1e-6)
    fooled = mean([math.log(sigmoid(x)) for x in FAKE])
    assert vanilla.generator(column(REAL), column(FAKE)).item() == pytest.approx(-fooled, rel=1e-6)


def test_the_hinge_losses_stop_at_verdicts_beyond_one() -> None:
    hinge = ADVERSARIAL_LOSSES["hinge"]
    by_hand = (0.2 + 1.3 + 0) / 3 + (0.5 + 1.4 + 3.1) / 3
    assert hinge.discriminator(column(REAL), column(FAKE)).item() == pytest.approx(by_hand, rel=1e-6)
    assert hinge.generator(column(REAL), column(FAKE)).item() == pytest.approx(-mean(FAKE), rel=1e-6)


@pytest.mark.parametrize("kind", ADVERSARIAL_LOSSES)
def test_a_generator_learns_to_be_judged_higher_and_a_discriminator_to_judge_it_lower(kind: AdversarialKind) -> None:
    loss = ADVERSARIAL_LOSSES[kind]
    real, fake = column([0.3, 0.2]).requires_grad_(), column([-0.3, 0.1]).requires_grad_()
    assert (torch.autograd.grad(loss.generator(real, fake), fake)[0] < 0).all()
    of_real, of_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
