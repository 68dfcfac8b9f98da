"""Training steps in C against PyTorch: in plain C, and with every kind of instructions that the processor has."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.rrdb import PaddingMode, RRDBConfig, RRDBNet
from training import steps as training_steps
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.discriminator import UNetDiscriminator
from training.loss_config import LossConfig
from training.losses import relativistic_discriminator_loss, relativistic_generator_loss
from training.native import discriminator as native_discriminator
from training.native import generator as native_generator
from training.native.discriminator import NativeDiscriminator, as_squares
from training.native.generator import NativeGenerator
from training.native.library import INSTRUCTIONS, Instructions, available, compiled
from training.native.perceptual import NativePerceptual
from training.perceptual import TORCHVISION, VGGFeatures, perceptual_loss
from training.steps import Steps

pytestmark = pytest.mark.skipif(compiled() is None, reason="nothing was compiled: `make native`")
BY_INSTRUCTIONS = pytest.mark.parametrize(
    "instructions",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(name not in ("plain C", *available()), reason=f"this processor has no {name}"),
        )
        for name in INSTRUCTIONS
    ],
)
FASTEST: Instructions = next(iter(available()), "plain C")
CPU = torch.device("cpu")
SMALL = RRDBConfig(channels=32, blocks=1, growth=16, scale=2, padding_mode="replicate")
GAN = TrainingConfig(
    name="small-x2",
    recipe="small",
    generator=SMALL,
    steps=100,
    batch=2,
    crop_px=8,
    optimiser=OptimiserConfig(method="muon", learning_rate=1e-3),
    losses=LossConfig(l1=1.0, adversarial=0.1),
    discriminator=DiscriminatorConfig(kind="unet", channels=32, optimiser=OptimiserConfig(learning_rate=1e-3)),
    validate_every=100,
)

Found = tuple[Tensor, list[Tensor]]
"""Output and gradients of a pass."""


def net_of(config: RRDBConfig) -> RRDBNet:
    torch.manual_seed(0)
    net = RRDBNet(config)
    for weight in net.parameters():
        if weight.dim() == 1:
            nn.init.normal_(weight, std=0.1)
    return net.to(memory_format=torch.channels_last)


def passes(upscale: Callable[[Tensor], Tensor], net: nn.Module, low: Tensor, *, autocast: bool = False) -> Found:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        made = upscale(low)
    torch.manual_seed(1)
    gradients = torch.autograd.grad((made.float() * torch.randn(made.shape)).mean(), list(net.parameters()))
    return made.detach().float(), list(gradients)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def mean_error(found: list[Tensor], exact: list[Tensor]) -> float:
    return sum(error(one, other) for one, other in zip(found, exact, strict=True)) / len(exact)


def cosine(found: Tensor, exact: Tensor) -> float:
    return float(functional.cosine_similarity(found.flatten().double(), exact.flatten().double(), dim=0))


@BY_INSTRUCTIONS
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@pytest.mark.parametrize(
    ("channels", "growth", "scale", "size"),
    [(32, 16, 4, (7, 10)), (64, 32, 2, (5, 16)), (32, 32, 3, (1, 3)), (32, 16, 1, (18, 1))],
)
def test_a_generator_is_as_near_to_float32_as_autocast_is(
    channels: int, growth: int, scale: int, size: tuple[int, int], padding_mode: PaddingMode, instructions: Instructions
) -> None:
    net = net_of(RRDBConfig(channels=channels, growth=growth, blocks=1, scale=scale, padding_mode=padding_mode))
    low = torch.rand(2, 3, *size)
    exact, rounded = (passes(net, net, low, autocast=autocast) for autocast in (False, True))
    made, gradients = passes(NativeGenerator(net, instructions), net, low)
    assert made.shape == exact[0].shape
    assert error(made, exact[0]) < error(rounded[0], exact[0])
    assert mean_error(gradients, exact[1]) < 1.5 * mean_error(rounded[1], exact[1])
    assert min(cosine(one, other) for one, other in zip(gradients, exact[1], strict=True)) > 0.97


@BY_INSTRUCTIONS
def test_large_maps_are_taken_in_bands_and_runs(instructions: Instructions) -> None:
    net = net_of(RRDBConfig(channels=32, growth=16, blocks=1, scale=2, padding_mode="replicate"))
    low = torch.rand(1, 3, 27, 45)  # more than a run of pixels, and more than a band of rows
    exact, rounded = (passes(net, net, low, autocast=autocast) for autocast in (False, True))
    made, gradients = passes(NativeGenerator(net, instructions), net, low)
    assert error(made, exact[0]) < error(rounded[0], exact[0])
    assert mean_error(gradients, exact[1]) < 1.5 * mean_error(rounded[1], exact[1])


@BY_INSTRUCTIONS
def test_the_same_pass_gives_the_same_bits(instructions: Instructions) -> None:
    net = net_of(SMALL)
    low = torch.rand(2, 3, 6, 5)
    native = NativeGenerator(net, instructions)
    first, again = passes(native, net, low), passes(native, net, low)
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(one, other) for one, other in zip(first[1], again[1], strict=True))


@BY_INSTRUCTIONS
def test_maps_of_as_many_pixels_in_another_shape_change_nothing(instructions: Instructions) -> None:
    net = net_of(RRDBConfig(channels=32, blocks=1, growth=16, scale=2))
    one, other = torch.rand(1, 3, 2, 22), torch.rand(1, 3, 6, 14)  # their frames have 224 pixels, too
    used = NativeGenerator(net, instructions)
    used(one)
    assert torch.equal(used(other), NativeGenerator(net, instructions)(other))


def test_a_backward_pass_takes_the_threads_that_its_forward_pass_had(monkeypatch: pytest.MonkeyPatch) -> None:
    net = net_of(SMALL)
    native = NativeGenerator(net, FASTEST)
    low = torch.rand(1, 3, 8, 8)
    _, expected = passes(native, net, low)
    made = native(low)
    torch.manual_seed(1)
    loss = (made.float() * torch.randn(made.shape)).mean()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    for gradient, one in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, one, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("number", [2, 8])
def test_several_threads_make_what_one_makes(number: int) -> None:
    net = net_of(SMALL)
    low = torch.rand(3, 3, 6, 5)
    native = NativeGenerator(net, FASTEST)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = passes(native, net, low)
        torch.set_num_threads(number)
        shared = passes(native, net, low)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone[0], shared[0])
    assert mean_error(shared[1], alone[1]) < 1e-5  # sums in another order


def test_threads_without_a_picture_have_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    zeros, shapes = torch.zeros, list[tuple[int, ...]]()

    def noted(*shape: int, **others: Any) -> Tensor:
        shapes.append(shape)
        return zeros(*shape, **others)

    monkeypatch.setattr(torch, "zeros", noted)
    net = net_of(SMALL)
    passes(NativeGenerator(net, FASTEST), net, torch.rand(2, 3, 6, 5))
    assert 64 not in [shape[0] for shape in shapes]


@BY_INSTRUCTIONS
@pytest.mark.parametrize(("size", "feature_scale"), [((16, 24), "relative"), ((19, 17), 0.05)])
def test_the_perceptual_loss_is_as_near_to_float32_as_autocast_is(
    size: tuple[int, int], feature_scale: float | Literal["relative"], instructions: Instructions
) -> None:
    torch.manual_seed(0)
    vgg = VGGFeatures(TORCHVISION, ("conv1_2", "conv2_2"))
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(cast(Tensor, layer.bias), std=0.1)
    high = torch.rand(2, 3, *size)
    upscaled = (high + 0.2 * torch.randn_like(high)).requires_grad_()

    def found(loss: Callable[[Tensor, Tensor], Tensor], *, autocast: bool = False) -> tuple[float, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = loss(upscaled, high)
        return float(value.detach()), torch.autograd.grad(value, upscaled)[0]

    exact, rounded = (
        found(
            lambda one, other: perceptual_loss(vgg, one, other, weights=(0.5, 2.0), feature_scale=feature_scale),
            autocast=autocast,
        )
        for autocast in (False, True)
    )
    native = NativePerceptual(vgg, instructions)
    made = found(lambda one, other: native(one, other, weights=(0.5, 2.0), feature_scale=feature_scale))
    assert made[0] == pytest.approx(exact[0], rel=2e-3)
    assert cosine(made[1], exact[1]) > cosine(rounded[1], exact[1]) - 1e-3
    assert made[1].norm() == pytest.approx(float(exact[1].norm()), rel=0.01)


def test_a_convolution_of_stride_2_is_one_over_squares_of_pixels() -> None:
    torch.manual_seed(0)
    weight, maps = torch.randn(5, 3, 4, 4), torch.randn(2, 3, 8, 6)
    squares = maps.unflatten(2, (4, 2)).unflatten(4, (3, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    made = functional.conv2d(squares, as_squares(weight), padding=1)
    assert torch.allclose(made, functional.conv2d(maps, weight, stride=2, padding=1), atol=1e-5)


@BY_INSTRUCTIONS
def test_a_discriminator_is_as_near_to_float32_as_autocast_is(instructions: Instructions) -> None:
    torch.manual_seed(0)
    net = UNetDiscriminator(32).eval()  # so that spectral norms stand still
    high, upscaled = torch.rand(1, 3, 8, 16), (0.5 * torch.rand(1, 3, 8, 16)).requires_grad_()

    def by_torch(*, autocast: bool) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            real, fake = net(high), net(upscaled)
        return gradients(real, fake, real, fake)

    def gradients(real: Tensor, fake: Tensor, own_real: Tensor, own_fake: Tensor) -> list[Tensor]:
        of_picture = torch.autograd.grad(relativistic_generator_loss(real.detach(), fake), upscaled, retain_graph=True)
        weights = [weight for name, weight in net.named_parameters() if name != "verdict.bias"]  # whose gradient is 0
        return [*of_picture, *torch.autograd.grad(relativistic_discriminator_loss(own_real, own_fake), weights)]

    for_generator, for_discriminator = NativeDiscriminator(net, instructions)(upscaled, high)
    made = gradients(*for_generator, *for_discriminator)
    exact, rounded = by_torch(autocast=False), by_torch(autocast=True)
    assert mean_error(made, exact) < 1.3 * mean_error(rounded, exact)
    assert min(cosine(one, other) for one, other in zip(made, exact, strict=True)) > 0.98


@pytest.fixture
def in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run use its passes in C; in plain C if the processor lacks the fast instructions."""
    monkeypatch.setattr(training_steps, "fast_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(training_steps, "available", lambda: (FASTEST,))


def batch(seed: int) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    low, high = (torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=chance) for side in (8, 16))
    return low, high


def test_a_run_in_c_goes_on_bit_for_bit_from_a_saved_state(in_c: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        whole = Steps(GAN, CPU)
    assert f"the generator trains on {FASTEST}" in caplog.messages
    assert f"the discriminator trains on {FASTEST}" in caplog.messages
    whole.take(*batch(0))
    resumed = Steps(GAN, CPU)
    state = whole.state()
    torch.manual_seed(5)
    resumed.restore(
        {**state, "generator": deepcopy(state["generator"]), "discriminator": deepcopy(state["discriminator"])}
    )
    assert whole.take(*batch(1)) == resumed.take(*batch(1))
    for one, other in zip(whole.generator.net.parameters(), resumed.generator.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_in_c_learns(in_c: None) -> None:
    run = Steps(GAN, CPU)
    losses = [run.take(*batch(0))["l1"] for _ in range(8)]
    assert losses[-1] < 0.9 * losses[0]


def test_without_fast_instructions_pytorch_trains(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(training_steps, "available", lambda: ())
    with caplog.at_level(logging.INFO):
        Steps(GAN, CPU)
    assert [message for message in caplog.messages if message.startswith("the generator trains on PyTorch in ")]


def test_sizes_that_fill_no_tile_are_left_to_pytorch() -> None:
    assert native_generator.takes(SMALL)
    assert not native_generator.takes(RRDBConfig(channels=24, blocks=2, growth=12))
    assert not native_discriminator.takes(UNetDiscriminator(4))
