"""The losses of a run by name: refused combinations, and the losses of each recipe."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from training.errors import ConfigError
from training.loss_config import ALL_LAYERS, LOSSES, VGG_LAYERS, LayerWeights, LossConfig
from training.losses import ADVERSARIAL_LOSSES, PIXEL_LOSSES
from training.recipes import RECIPES

GAN = LossConfig(l1=1e-2, perceptual=1.0, adversarial=5e-3)

ALL_ALIKE = {"perceptual_layers": ALL_LAYERS, "feature_scale": "relative"}
COMPACT_GAN = {"l1": 10.0, "perceptual": 1.0, "adversarial": 0.2, "artefacts": 200.0, "flat": 300.0, **ALL_ALIKE}
LOSSES_OF_RECIPES: dict[str, dict[str, Any]] = {
    "finetune_x4": {"l1": 1.0},
    "smoke": {"l1": 1.0},
    "compact_psnr_x4": {"l1": 1.0, "flat": 0.5},
    "compact_real_psnr_x4": {"l1": 1.0, "flat": 0.5},
    "real_psnr_x4": {"l1": 1.0},
    "psnr_x4": {"l1": 1.0},
    "esrgan_x4": {"l1": 1e-2, "perceptual": 1.0, "adversarial": 5e-3},
    "compact_esrgan_x4": COMPACT_GAN,
    "compact_real_esrgan_x4": COMPACT_GAN,
    "real_esrgan_x4": {"l1": 1.0, "perceptual": 1.0, "adversarial": 0.1, **ALL_ALIKE},
}


@pytest.mark.parametrize(
    ("config", "field", "value", "reason"),
    [
        *((GAN, name, -1.0, f"{name} is -1.0; a loss weight must be finite and not negative") for name in LOSSES),
        (GAN, "adversarial", math.nan, "adversarial is nan; a loss weight must be finite and not negative"),
        (GAN, "teacher", math.inf, "teacher is inf; a loss weight must be finite and not negative"),
        (LossConfig(), "l1", 0.0, "every loss weight is 0; nothing would be learnt"),
        (
            GAN,
            "adversarial_kind",
            "wgan",
            "adversarial_kind is 'wgan'; it must be 'relativistic', 'vanilla' or 'hinge'",
        ),
        (GAN, "feature_scale", 0.0, "feature_scale is 0.0; it must be finite and positive"),
        (GAN, "feature_scale", math.inf, "feature_scale is inf; it must be finite and positive"),
        (GAN, "feature_scale", "caffe", "feature_scale is 'caffe'; it must be 'auto', 'relative' or a positive number"),
        (ALL_LAYERS, "conv3_4", -0.1, "conv3_4 is -0.1; a loss weight must be finite and not negative"),
        (LayerWeights(), "conv5_4", 0.0, "every layer has weight 0"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(config: Any, field: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        replace(config, **{field: value})


@pytest.mark.parametrize("config", [GAN, ALL_LAYERS])
def test_losses_cannot_be_changed(config: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        config.l1 = 2.0


def test_layers_without_a_weight_are_not_compared() -> None:
    layers = LayerWeights(conv2_2=0.1, conv5_4=2.0)
    assert (layers.names, layers.weights) == (("conv2_2", "conv5_4"), (0.1, 2.0))
    assert ALL_LAYERS.names == VGG_LAYERS


def test_every_loss_is_computed_somewhere() -> None:
    assert {*PIXEL_LOSSES, "artefacts", "teacher", "flat", "perceptual", "adversarial"} == set(LOSSES)
    for kind in ADVERSARIAL_LOSSES:
        assert LossConfig(adversarial_kind=kind).adversarial_kind == kind


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_learns_from_these_losses_and_no_others(recipe: str) -> None:
    none = dict.fromkeys(LOSSES, 0.0)
    assert RECIPES[recipe]().losses == LossConfig(**none | LOSSES_OF_RECIPES[recipe])
