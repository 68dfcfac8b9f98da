import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from training.losses import l1_loss, relativistic_discriminator_loss, relativistic_generator_loss

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
