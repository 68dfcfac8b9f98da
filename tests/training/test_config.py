import inspect
import json
import math
import re
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.rrdb import RRDBConfig
from training.config import ANY, DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.errors import ConfigError
from training.fields import differences
from training.loss_config import ALL_LAYERS, LayerWeights, LossConfig
from training.losses import artefact_loss
from training.recipes import RECIPES, compact_esrgan_x4, compact_psnr_x4, compact_real_esrgan_x4, esrgan_x4, psnr_x4
from training.uploads import UploadConfig

OPTIMISER = OptimiserConfig(learning_rate=1e-3, warmup_steps=10)
LOSSES = LossConfig(l1=1e-2, perceptual=1.0, adversarial=5e-3)
VGG = DiscriminatorConfig(kind="vgg", channels=8, optimiser=OPTIMISER)
UNET = DiscriminatorConfig(kind="unet", channels=8, optimiser=OPTIMISER)
CONFIG = TrainingConfig(
    name="tiny-psnr-x4",
    recipe="tiny_psnr_x4",
    generator=RRDBConfig(channels=4, blocks=1, growth=2, scale=4),
    steps=100,
    batch=2,
    crop_px=8,
    optimiser=OPTIMISER,
    ema_decay=0.9,
    validate_every=50,
)
GAN = replace(CONFIG, crop_px=32, losses=LOSSES, discriminator=VGG)


@pytest.mark.parametrize(
    ("config", "field", "value", "reason"),
    [
        (OPTIMISER, "method", "sgd", "method is 'sgd'; it must be 'adam' or 'muon'"),
        (OPTIMISER, "learning_rate", 0.0, "learning_rate is 0.0; it must lie between 0 and 1"),
        (OPTIMISER, "learning_rate", -1e-4, "learning_rate is -0.0001; it must lie between 0 and 1"),
        (OPTIMISER, "learning_rate", 1.0, "learning_rate is 1.0; it must lie between 0 and 1"),
        (OPTIMISER, "learning_rate", math.nan, "learning_rate is nan; it must lie between 0 and 1"),
        (OPTIMISER, "warmup_steps", -1, "warmup_steps is -1; it must not be negative"),
        (OPTIMISER, "halve_at", (0, 5), r"halve_at is \(0, 5\); the steps must rise from 1"),
        (OPTIMISER, "halve_at", (5, 5), r"halve_at is \(5, 5\); the steps must rise from 1"),
        (OPTIMISER, "halve_at", (9, 5), r"halve_at is \(9, 5\); the steps must rise from 1"),
        (OPTIMISER, "decay_steps", -1, r"decay_steps is -1 and halve_at is \(\); give one of them, not negative"),
        (
            replace(OPTIMISER, halve_at=(5,)),
            "decay_steps",
            9,
            r"decay_steps is 9 and halve_at is \(5,\); give one of them, not negative",
        ),
        (OPTIMISER, "betas", (0.9, 1.0), r"betas is \(0.9, 1.0\); each must be in \[0, 1\)"),
        (OPTIMISER, "betas", (-0.1, 0.9), r"betas is \(-0.1, 0.9\); each must be in \[0, 1\)"),
        (VGG, "kind", "resnet", "kind is 'resnet'; it must be 'vgg' or 'unet'"),
        (VGG, "channels", 0, "channels is 0; it must be at least 1"),
        (VGG, "share", 0.0, "share is 0.0; it must be above 0, and at most 1"),
        (VGG, "share", 1.1, "share is 1.1; it must be above 0, and at most 1"),
        (GAN, "discriminator", replace(VGG, share=0.5), "share is 0.5, and no crop has more noise than another"),
        (CONFIG, "steps", 0, "steps is 0; it must be at least 1"),
        (CONFIG, "batch", 0, "batch is 0; it must be at least 1"),
        (CONFIG, "crop_px", -8, "crop_px is -8; it must be at least 1"),
        (CONFIG, "validate_every", 0, "validate_every is 0; it must be at least 1"),
        (CONFIG, "log_every", 0, "log_every is 0; it must be at least 1"),
        (CONFIG, "patience", -1, "patience is -1; it must not be negative"),
        (CONFIG, "accumulate", 0, "accumulate is 0; it must be at least 1"),
        (CONFIG, "accumulate", 3, "accumulate is 3; it must divide batch = 2"),
        (CONFIG, "best_by", "niqe", "best_by is 'niqe'; it must be 'psnr_y' or 'lpips'"),
        (CONFIG, "name", "two words", "name is 'two words'; it takes letters, digits, .* at most 95"),
        (CONFIG, "name", 96 * "n", "at most 95"),
        (CONFIG, "seed", -1, "seed is -1; it must be from 0 to 18446744073709551615"),
        (CONFIG, "seed", 2**64, "seed is 18446744073709551616; it must be from 0 to"),
        (CONFIG, "ema_decay", 1.0, r"ema_decay is 1.0; it must be in \[0, 1\)"),
        (CONFIG, "ema_decay", -0.1, r"ema_decay is -0.1; it must be in \[0, 1\)"),
        (CONFIG, "steps", 10, "optimiser.warmup_steps is 10; it must be less than steps = 10"),
        (
            GAN,
            "discriminator",
            None,
            "the adversarial loss has weight 0.005 and the discriminator is None; it takes both",
        ),
        (GAN, "losses", LossConfig(), "the adversarial loss has weight 0.0 and the discriminator is .*; it takes both"),
        (
            GAN,
            "crop_px",
            24,
            "of 128 px, and crop_px 24 x scale 4 is 96; take crop_px 32, or discriminator.kind 'unet'",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(config: Any, field: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        replace(config, **{field: value})


def test_a_crop_that_the_unet_cannot_halve_three_times_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"9 x scale 4 is 36, not a multiple of 8; .* that is a multiple of 2"):
        replace(GAN, discriminator=UNET, crop_px=9)


def test_a_crop_that_vgg_halves_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"crop_px 2 x scale 4 is below 16; take a crop_px of at least 4"):
        replace(GAN, discriminator=UNET, crop_px=2)


def test_a_crop_that_the_windows_of_the_artefact_loss_do_not_fit_is_refused() -> None:
    double = replace(CONFIG, generator=replace(CONFIG.generator, scale=2), losses=LossConfig(artefacts=1.0), crop_px=2)
    crop = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert artefact_loss(crop, crop, 1 - crop).isfinite()  # the smallest that is allowed
    with pytest.raises(ConfigError, match=r"crop_px 1 x scale 2 is below 4; take a crop_px of at least 2"):
        replace(double, crop_px=1)


def test_the_way_out_of_a_crop_that_the_discriminator_cannot_take_is_one() -> None:
    x3 = replace(GAN.generator, scale=3)
    with pytest.raises(ConfigError, match=r"crop_px 42 x scale 3 is 126; take discriminator\.kind 'unet'"):
        replace(GAN, generator=x3, crop_px=42)
    with pytest.raises(ConfigError, match="that is a multiple of 8"):
        replace(GAN, generator=x3, crop_px=42, discriminator=UNET)
    replace(GAN, generator=x3, crop_px=48, discriminator=UNET)


def test_the_edges_of_the_ranges_are_allowed() -> None:
    optimiser = OptimiserConfig(learning_rate=0.999, warmup_steps=0, halve_at=(1, 2), betas=(0.0, 0.0))
    replace(CONFIG, steps=1, batch=1, crop_px=1, validate_every=1, log_every=1, ema_decay=0.0, optimiser=optimiser)
    replace(GAN, discriminator=UNET, crop_px=4)
    replace(GAN, losses=replace(LOSSES, perceptual=0.0), discriminator=UNET, crop_px=2)
    replace(GAN, losses=LossConfig(l1=0.0, adversarial=1.0))
    replace(GAN, losses=replace(LOSSES, perceptual_layers=ALL_LAYERS, feature_scale="relative"))


@pytest.mark.parametrize("config", [OPTIMISER, LOSSES, VGG, CONFIG])
def test_a_config_cannot_be_changed(config: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(config, fields(config)[0].name, None)


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (0, 1 / 4),
        (1, 2 / 4),
        (3, 1),
        (4, 1),
        (8, (1 + math.sqrt(0.5)) / 2),  # a quarter of the way: cos 45 degrees
        (12, 1 / 2),
        (19, (1 + math.cos(math.pi * 15 / 16)) / 2),
    ],
)
def test_the_learning_rate_warms_up_and_follows_half_a_cosine_down(step: int, share: float) -> None:
    optimiser = OptimiserConfig(learning_rate=0.01, warmup_steps=4)
    assert optimiser.rate_at(step, 20) == pytest.approx(0.01 * share)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1 / 4), (3, 1), (9, 1), (10, 1 / 2), (11, 1 / 2), (12, 1 / 4), (30, 1 / 4), (99, 1 / 4)]
)
def test_the_learning_rate_warms_up_and_is_halved(step: int, share: float) -> None:
    optimiser = OptimiserConfig(learning_rate=0.01, warmup_steps=4, halve_at=(10, 12))
    assert optimiser.rate_at(step, 100) == pytest.approx(0.01 * share)


DECAYING = OptimiserConfig(learning_rate=0.01, warmup_steps=4, decay_steps=5)


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 1 / 4), (3, 1), (4, 1), (14, 1), (15, 1), (16, 4 / 5), (17, 3 / 5), (18, 2 / 5), (19, 1 / 5)],
)
def test_the_learning_rate_stays_at_its_peak_and_falls_in_a_line_over_the_last_steps(step: int, share: float) -> None:
    assert DECAYING.rate_at(step, 20) == pytest.approx(0.01 * share)


def test_a_run_with_more_steps_has_the_same_learning_rates_until_the_shorter_one_decays() -> None:
    assert [DECAYING.rate_at(step, 20) for step in range(15)] == [DECAYING.rate_at(step, 30) for step in range(15)]


def test_a_run_too_short_for_its_decay_still_starts_it_at_the_peak() -> None:
    rates = [DECAYING.rate_at(step, 7) for step in range(7)]
    assert rates == pytest.approx([0.01 * share for share in (1 / 4, 2 / 4, 3 / 4, 1, 1, 2 / 3, 1 / 3)])


def test_without_a_warm_up_the_learning_rate_starts_at_its_peak() -> None:
    assert OptimiserConfig(learning_rate=0.01).rate_at(0, 20) == 0.01


def test_a_config_is_written_with_every_field(tmp_path: Path) -> None:
    optimiser = {
        "method": "adam",
        "learning_rate": 1e-3,
        "warmup_steps": 10,
        "halve_at": [],
        "decay_steps": 0,
        "betas": [0.9, 0.999],
    }
    generator = {
        "channels": 4,
        "blocks": 1,
        "growth": 2,
        "scale": 4,
        "inputs": 3,
        "unshuffle": 1,
        "padding_mode": "zeros",
    }
    GAN.write(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "name": "tiny-psnr-x4",
        "recipe": "tiny_psnr_x4",
        "starts_from": None,
        "start": None,
        "start_discriminator": None,
        "teacher": None,
        "generator": generator,
        "steps": 100,
        "batch": 2,
        "crop_px": 32,
        "optimiser": optimiser,
        "losses": {
            "l1": 0.01,
            "l2": 0.0,
            "charbonnier": 0.0,
            "fourier": 0.0,
            "artefacts": 0.0,
            "teacher": 0.0,
            "teacher_ensemble": False,
            "flat": 0.0,
            "perceptual": 1.0,
            "adversarial": 0.005,
            "adversarial_kind": "relativistic",
            "perceptual_layers": {"conv1_2": 0.0, "conv2_2": 0.0, "conv3_4": 0.0, "conv4_4": 0.0, "conv5_4": 1.0},
            "feature_scale": "auto",
        },
        "discriminator": {"kind": "vgg", "channels": 8, "share": 1.0, "optimiser": optimiser},
        "degradation": None,
        "ema_decay": 0.9,
        "validate_every": 50,
        "log_every": 100,
        "best_by": "psnr_y",
        "patience": 0,
        "accumulate": 1,
        "checkpointing": False,
        "seed": 0,
    }


def test_a_generator_that_pads_with_zeros_cannot_keep_flat_colours_flat() -> None:
    losses = LossConfig(flat=2.0)
    with pytest.raises(ConfigError, match=r"flat loss has weight 2\.0 .* pads with zeros.* padding_mode 'replicate'"):
        replace(CONFIG, losses=losses)
    replace(CONFIG, losses=losses, generator=replace(CONFIG.generator, padding_mode="replicate"))


def test_configs_that_differ_anywhere_differ_in_text() -> None:
    degradation = UploadConfig()
    others = [
        replace(CONFIG, seed=1),
        replace(CONFIG, generator=replace(CONFIG.generator, padding_mode="replicate")),
        replace(CONFIG, optimiser=replace(OPTIMISER, decay_steps=10)),
        replace(CONFIG, generator=replace(CONFIG.generator, growth=3)),
        replace(CONFIG, optimiser=replace(OPTIMISER, betas=(0.9, 0.99))),
        GAN,
        replace(GAN, losses=replace(LOSSES, feature_scale=0.05)),
        replace(GAN, losses=replace(LOSSES, feature_scale="relative")),
        replace(GAN, losses=replace(LOSSES, adversarial_kind="hinge")),
        replace(GAN, losses=replace(LOSSES, perceptual_layers=LayerWeights(conv4_4=1.0))),
        replace(GAN, discriminator=UNET),
        replace(CONFIG, degradation=degradation),
        replace(CONFIG, degradation=replace(degradation, grey_probability=0.5)),
        replace(CONFIG, degradation=replace(degradation, file=replace(degradation.file, probability=0.5))),
    ]
    assert len({config.to_json() for config in (CONFIG, *others)}) == 1 + len(others)
    assert all(differences(config, CONFIG) for config in others)


@pytest.mark.parametrize(
    "changes", [{}, {"steps": 500}, {"validate_every": 7, "log_every": 3}, {"accumulate": 2, "checkpointing": True}]
)
def test_a_run_is_continued_with_another_length_other_reports_and_other_needs_of_memory(
    changes: dict[str, int],
) -> None:
    config = replace(GAN, discriminator=UNET, degradation=UploadConfig())
    assert differences(replace(config, **changes), config) == []  # type: ignore[arg-type]  # the fields are integers


def test_differences_name_the_field_and_both_values() -> None:
    other = replace(CONFIG, optimiser=replace(OPTIMISER, learning_rate=0.5))
    assert differences(other, CONFIG) == ["optimiser.learning_rate is 0.001 there and 0.5 here"]


def test_damage_is_learnt_where_not_every_low_res_picture_is_clean() -> None:
    assert not CONFIG.learns_damage
    assert not replace(CONFIG, degradation=UploadConfig(clean_share=1)).learns_damage
    assert replace(CONFIG, degradation=UploadConfig()).learns_damage


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_returns_a_whole_config_that_names_it(name: str) -> None:
    config = RECIPES[name]()
    assert config.recipe == name
    assert config == RECIPES[name]()


def test_no_two_recipes_export_a_file_of_the_same_name() -> None:
    names = [recipe().name for recipe in RECIPES.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_on_from_one_with_the_same_generator(name: str) -> None:
    config = RECIPES[name]()
    if config.starts_from not in (None, ANY):
        assert RECIPES[config.starts_from]().generator == config.generator


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_with_a_discriminator_goes_on_from_one_without(name: str) -> None:
    config = RECIPES[name]()
    assert (config.starts_from not in (None, ANY)) == bool(config.discriminator)
    if config.starts_from not in (None, ANY):
        assert RECIPES[config.starts_from]().discriminator is None


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_the_command_that_runs_it(name: str) -> None:
    (command,) = re.findall(r"^Command: (.+)$", inspect.getdoc(RECIPES[name]) or "", re.MULTILINE)
    assert re.fullmatch(rf"python -m training {name} .*--data PHOTOS .*--out DIR", command)
    assert ("--start" in command) == bool(RECIPES[name]().starts_from)


@pytest.mark.parametrize("recipe", [psnr_x4, esrgan_x4])
def test_the_papers_recipes_train_the_papers_generator_on_its_batches(recipe: Any) -> None:
    config = recipe()
    assert config.generator == RRDBConfig(channels=64, blocks=23, growth=32, scale=4)
    assert (config.batch, config.crop_px * config.generator.scale) == (16, 128)
    assert config.degradation is None


def test_the_first_stage_is_the_papers() -> None:
    config = psnr_x4()
    adam = OptimiserConfig(learning_rate=2e-4, halve_at=(200_000, 400_000, 600_000, 800_000), betas=(0.9, 0.999))
    assert asdict(config.optimiser) == asdict(adam) | {"method": "adam", "warmup_steps": 0}
    assert config.steps == 1_000_000
    assert config.losses == LossConfig(l1=1.0, perceptual=0.0, adversarial=0.0)
    assert config.discriminator is None


def test_the_second_stage_is_the_papers() -> None:
    config = esrgan_x4()
    adam = OptimiserConfig(learning_rate=1e-4, halve_at=(50_000, 100_000, 200_000, 300_000), betas=(0.9, 0.999))
    assert asdict(config.optimiser) == asdict(adam) | {"method": "adam", "warmup_steps": 0}
    assert config.steps == 400_000
    assert config.losses == LossConfig(l1=1e-2, perceptual=1.0, adversarial=5e-3)
    assert config.discriminator == DiscriminatorConfig(kind="vgg", channels=64, optimiser=config.optimiser)
    assert config.starts_from == "psnr_x4"


REAL = [name for name in RECIPES if "real_" in name]


@pytest.mark.parametrize("name", REAL)
def test_the_recipes_for_real_uploads_learn_damage_and_repeat_borders(name: str) -> None:
    config = RECIPES[name]()
    assert config.degradation == UploadConfig()
    assert config.generator.padding_mode == "replicate"
    assert config.optimiser.decay_steps < config.steps
    if config.discriminator:
        assert config.discriminator.kind == "unet"
        assert config.discriminator.optimiser.decay_steps == config.optimiser.decay_steps


def test_there_are_both_stages_for_real_uploads_in_both_sizes() -> None:
    assert {RECIPES[name]().name for name in REAL} == {
        f"{size}-real-{stage}-x4" for size in ("compact", "rrdb") for stage in ("psnr", "esrgan")
    }


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in REAL])
def test_the_other_recipes_learn_what_the_published_benchmarks_measure(name: str) -> None:
    config = RECIPES[name]()
    assert config.degradation is None
    assert config.generator.padding_mode == ("replicate" if name.startswith("compact") else "zeros")


def test_the_compact_gan_recipes_have_one_set_of_losses() -> None:
    assert compact_real_esrgan_x4().losses == compact_esrgan_x4().losses


def test_the_compact_recipe_makes_what_two_cores_can_serve() -> None:
    generator = compact_psnr_x4().generator
    assert (generator.channels, generator.blocks, generator.growth, generator.scale) == (32, 8, 16, 4)
    assert generator.macs_per_low_res_px <= 1_800_000
