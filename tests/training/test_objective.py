"""The weighted sum of a generator's losses, and the networks that some of them need."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, cast

import pytest
import torch
from torch import Tensor, nn

from model.rrdb import RRDBConfig
from tests.model.examples import random_net, textured
from training import steps as training_steps
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.degrade import shrink_bicubic
from training.loss_config import AdversarialKind, LossConfig
from training.losses import ADVERSARIAL_LOSSES, PIXEL_LOSSES, artefact_loss
from training.objective import Objective
from training.perceptual import CAFFE, CAFFE_FEATURE_SCALE, TORCHVISION, Normalisation, VGGFeatures
from training.steps import Steps
from training.teacher import Teacher

CPU = torch.device("cpu")
GENERATOR = RRDBConfig(channels=6, blocks=1, growth=4, scale=2)
OPTIMISER = OptimiserConfig(learning_rate=3e-3)
CONFIG = TrainingConfig(
    name="tiny-x2",
    recipe="tiny",
    generator=GENERATOR,
    steps=100,
    batch=2,
    crop_px=8,
    optimiser=OPTIMISER,
    validate_every=100,
)
UNET = DiscriminatorConfig(kind="unet", channels=4, optimiser=OPTIMISER)


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use float32, because values are compared with ones computed by hand."""
    monkeypatch.setattr(training_steps, "fast_dtype", lambda device: torch.float32)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two crops of 8 x 8 px and the 16 x 16 px that they were made of."""
    high_res = torch.stack([textured(16, 16, seed), textured(16, 16, seed + 100)])
    return torch.stack([shrink_bicubic(picture, 2) for picture in high_res]), high_res


def gradients(net: nn.Module) -> list[Tensor]:
    return [weight.grad.clone() for weight in net.parameters() if weight.grad is not None]


def test_the_generator_learns_from_the_weighted_sum_of_all_losses() -> None:
    losses = LossConfig(l1=0.0, l2=0.3, charbonnier=0.5, fourier=0.7, artefacts=40.0, teacher=1.1)
    teacher = Teacher(random_net(GENERATOR, seed=3), CPU)
    run = Steps(replace(CONFIG, losses=losses), CPU, teacher=teacher)
    run.take(*batch(1))  # so that the average is not the generator
    net, average = copy.deepcopy(run.generator.net), copy.deepcopy(run.average)
    net.zero_grad()
    reported = run.take(*batch(2))

    low, high = (pixels.float() / 255 for pixels in batch(2))
    upscaled = net(low)
    by_hand = {name: PIXEL_LOSSES[name](upscaled, high) for name in ("l1", "l2", "charbonnier", "fourier")}
    by_hand["artefacts"] = artefact_loss(upscaled, average(low), high)
    by_hand["teacher"] = (upscaled - teacher(low)).abs().mean()
    weights = {"l1": 0.0, "l2": 0.3, "charbonnier": 0.5, "fourier": 0.7, "artefacts": 40.0, "teacher": 1.1}
    torch.stack([weights[name] * loss for name, loss in by_hand.items()]).sum().backward()
    torch.testing.assert_close(gradients(run.generator.net), gradients(net), rtol=1e-4, atol=1e-6)
    reported = {name: loss for name, loss in reported.items() if not name.endswith("_gradient")}
    assert reported == pytest.approx({name: loss.item() for name, loss in by_hand.items()}, rel=1e-4)
    assert by_hand["artefacts"] > 0


@pytest.mark.parametrize("kind", ADVERSARIAL_LOSSES)
def test_both_networks_learn_by_the_kind_of_adversarial_loss(kind: AdversarialKind) -> None:
    losses = LossConfig(l1=0.0, adversarial=1.0, adversarial_kind=kind)
    run = Steps(replace(CONFIG, losses=losses, discriminator=UNET), CPU)
    assert run.discriminator
    net, judge = copy.deepcopy(run.generator.net), copy.deepcopy(run.discriminator.net)
    reported = run.take(*batch())
    low, high = (pixels.float() / 255 for pixels in batch())
    judge.eval()
    adversarial = ADVERSARIAL_LOSSES[kind].generator(judge(high), judge(net(low)))
    judge.train()
    learnt = ADVERSARIAL_LOSSES[kind].discriminator(judge(high), judge(net(low)))
    assert reported["adversarial"] == pytest.approx(adversarial.item(), rel=1e-5)
    assert reported["discriminator"] == pytest.approx(learnt.item(), rel=1e-5)


class OnePixel(nn.Module):
    """Fake VGG19: the pictures are the features."""

    feature_scale = VGGFeatures.feature_scale

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.normalisation = normalisation

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [pictures]


@pytest.mark.parametrize(
    ("scale", "normalisation", "expected"),
    [
        ("auto", TORCHVISION, 1.0),
        ("auto", CAFFE, CAFFE_FEATURE_SCALE),
        (0.08, TORCHVISION, 0.08),
        (0.08, CAFFE, 0.08),
        (1.0, CAFFE, 1.0),
        ("relative", TORCHVISION, 4.0),
        ("relative", CAFFE, 4.0),
    ],
)
def test_only_an_automatic_scale_depends_on_the_weights_of_vgg19(
    scale: float | Literal["auto", "relative"], normalisation: Normalisation, expected: float
) -> None:
    vgg = cast(VGGFeatures, OnePixel(normalisation))
    objective = Objective(LossConfig(perceptual=1.0, feature_scale=scale), vgg=vgg, teacher=None)
    low, high = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 2, 2), 0.25)
    losses = objective.losses(low, high, torch.zeros(1, 3, 2, 2), nn.Identity())
    assert losses["perceptual"].item() == pytest.approx(0.25 * expected)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LossConfig(perceptual=1.0), "the perceptual loss needs VGG19"),
        (LossConfig(teacher=1.0), "the teacher loss needs a teacher"),
    ],
)
def test_a_loss_without_its_network_is_refused(config: LossConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Objective(config, vgg=None, teacher=None)


def test_networks_are_not_run_for_losses_without_a_weight() -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError

    objective = Objective(LossConfig(), vgg=cast(VGGFeatures, never), teacher=cast(Teacher, never))
    low, high = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 2, 2)
    assert objective.losses(low, high, high, cast(Callable[[Tensor], Tensor], never)).keys() == {"l1"}
