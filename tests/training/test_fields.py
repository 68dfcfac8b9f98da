import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.tiny_runs import GAN, PSNR
from training.errors import ConfigError
from training.fields import read_config, shorter_warm_ups, with_settings
from training.loss_config import LOSSES, LayerWeights
from training.recipes import RECIPES, finetune_x4
from training.uploads import UploadConfig


@pytest.mark.parametrize("name", RECIPES)
def test_the_config_of_every_recipe_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    config = RECIPES[name]()
    config.write(tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config


def test_fields_of_every_kind_are_set() -> None:
    config = with_settings(
        GAN,
        [
            "name=other",
            "crop_px=16",
            "ema_decay=0",
            "checkpointing=true",
            "optimiser.learning_rate=2e-4",
            "optimiser.betas=0.5,0.9",
            "optimiser.halve_at=3,5",
            "discriminator.optimiser.warmup_steps=1",
            "generator.padding_mode=replicate",
        ],
    )
    assert config == replace(
        GAN,
        name="other",
        crop_px=16,
        ema_decay=0.0,
        checkpointing=True,
        optimiser=replace(GAN.optimiser, learning_rate=2e-4, betas=(0.5, 0.9), halve_at=(3, 5)),
        discriminator=replace(GAN.discriminator, optimiser=replace(GAN.optimiser, warmup_steps=1)),  # type: ignore[type-var]  # GAN has one
        generator=replace(GAN.generator, padding_mode="replicate"),
    )


def test_a_part_is_added_with_its_defaults_and_then_changed() -> None:
    config = with_settings(PSNR, ["degradation=default", "degradation.grey_probability=0.25"])
    assert config.degradation == UploadConfig(grey_probability=0.25)
    assert with_settings(config, ["degradation=none"]) == PSNR


@pytest.mark.parametrize("group", ["degradation=default", "degradation={}", 'degradation={"blur": {}, "file": {}}'])
def test_a_group_within_an_added_part_keeps_the_other_defaults_of_that_part(group: str) -> None:
    config = with_settings(PSNR, [group, "degradation.file.quality=40,90", "degradation.blur.probability=0.5"])
    defaults = UploadConfig()  # whose blur is not BlurConfig()
    assert config.degradation == UploadConfig(
        file=replace(defaults.file, quality=(40, 90)), blur=replace(defaults.blur, probability=0.5)
    )


def test_a_group_as_json_within_an_added_part_keeps_the_other_defaults_of_that_part() -> None:
    config = with_settings(PSNR, ['degradation={"blur": {"probability": 0.5}}'])
    assert config.degradation == UploadConfig(blur=replace(UploadConfig().blur, probability=0.5))


def test_a_group_that_must_be_given_is_given_field_by_field() -> None:
    judge = ["discriminator={}", "discriminator.kind=unet", "discriminator.channels=2"]
    config = with_settings(PSNR, ["losses.adversarial=0.1", *judge, "discriminator.optimiser.learning_rate=1e-3"])
    assert config.discriminator == GAN.discriminator


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["optimiser=3", "optimiser.learning_rate=1e-3"], "optimiser is 3; it must be a group of the fields method, "),
        (["degradation=[]", "degradation.blur.probability=1"], "degradation is []; it must be a group of the fields "),
        (
            ['degradation={"blur": null}', "degradation.blur.probability=1"],
            "this run has no degradation.blur; give degradation.blur=default first",
        ),
        (
            ["degradation=default", "degradation.file.quality=50,60"],
            "degradation.file.typical_quality is 78; it must be within quality, from 50 to 60",
        ),
    ],
)
def test_a_setting_that_does_not_fit_earlier_ones_is_refused(settings: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_settings(PSNR, settings)
    assert complaint in str(error.value)


def test_a_part_is_given_as_json() -> None:
    judge = '{"kind": "unet", "channels": 2, "optimiser": {"learning_rate": 1e-3}}'
    config = with_settings(PSNR, ["losses.adversarial=0.1", f"discriminator={judge}"])
    assert config.discriminator == GAN.discriminator


def test_every_loss_has_a_weight_that_is_set_by_its_name() -> None:
    weights = [f"losses.{name}={number / 10}" for number, name in enumerate(LOSSES)]
    more = [
        "generator.padding_mode=replicate",
        "losses.adversarial_kind=hinge",
        "losses.perceptual_layers.conv2_2=0.5",
        "losses.feature_scale=relative",
    ]
    losses = with_settings(GAN, weights + more).losses
    assert [getattr(losses, name) for name in LOSSES] == [number / 10 for number in range(len(LOSSES))]
    assert losses.adversarial_kind == "hinge"
    assert losses.perceptual_layers == LayerWeights(conv2_2=0.5)
    assert losses.feature_scale == "relative"
    assert with_settings(GAN, ["losses.feature_scale=0.05"]).losses.feature_scale == 0.05


@pytest.mark.parametrize(("number", "scale"), [(None, "relative"), (1.0, "auto"), (0.05, "auto")])
def test_losses_are_read_as_older_versions_wrote_them(number: float | None, scale: str, tmp_path: Path) -> None:
    written = json.loads(GAN.to_json())
    written["losses"] = {
        "l1": 1.0,
        "perceptual": 0.5,
        "adversarial": 0.1,
        "perceptual_layers": ["conv1_2", "conv5_4"],
        "feature_scale": number,
    }
    (tmp_path / "config.json").write_text(json.dumps(written))
    losses = read_config(tmp_path / "config.json").losses
    assert (losses.perceptual, losses.perceptual_layers) == (0.5, LayerWeights(conv1_2=1.0))
    assert losses.feature_scale == scale


@pytest.mark.parametrize("steps", [1, 9, 40])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_few_steps(name: str, steps: int) -> None:
    config, settings = RECIPES[name](), [f"steps={steps}"]
    short = with_settings(config, [*shorter_warm_ups(config, settings), *settings])
    for one, before in zip(short.optimisers.values(), config.optimisers.values(), strict=True):
        assert one.warmup_steps == (before.warmup_steps if before.warmup_steps < steps else steps // 10)


def test_a_warm_up_that_fits_stays_as_it_is() -> None:
    assert shorter_warm_ups(finetune_x4(), ["steps=51"]) == []
    assert shorter_warm_ups(finetune_x4(), ["steps=60", "steps=50"]) == ["optimiser.warmup_steps=5"]


def test_a_warm_up_that_is_set_stays_as_it_is_set() -> None:
    settings = ["steps=40", "optimiser.warmup_steps=39"]
    config = with_settings(finetune_x4(), [*shorter_warm_ups(finetune_x4(), settings), *settings])
    assert config.optimiser.warmup_steps == 39


def test_fields_that_only_fit_together_are_set_together() -> None:
    assert with_settings(GAN, ["losses.adversarial=0", "discriminator=none"]).discriminator is None


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("steps", "--set takes FIELD=VALUE, not 'steps'"),
        ("step=3", "step is not a field; do you mean steps? There are name, recipe, "),
        ("zebra=3", "zebra is not a field; there are name, recipe, "),
        ("optimiser.rate=3", "optimiser.rate is not a field; there are method, learning_rate, "),
        ("steps.more=3", "steps.more: steps is one value, not a group of fields; give steps=VALUE"),
        ("optimiser=3", "optimiser is 3; it must be a group of the fields method, learning_rate"),
        ("degradation.grey_probability=1", "this run has no degradation; give degradation=default first"),
        ("discriminator=default", "discriminator.optimiser.learning_rate is missing; it must be a number"),
        (
            "discriminator.channels=8",
            "give discriminator=default discriminator.optimiser.learning_rate=VALUE first, or discriminator={...}",
        ),
        ("discriminator={", "discriminator is '{', which is not JSON"),
        ("steps=many", "steps is 'many'; it must be a whole number"),
        ("steps=1.5", "steps is 1.5; it must be a whole number"),
        ("steps=true", "steps is True; it must be a whole number"),
        ("steps=none", "steps is 'none'; it must be a whole number"),
        ("checkpointing=1", "checkpointing is 1; it must be true or false"),
        ("best_by=niqe", "best_by is 'niqe'; it must be one of psnr_y, lpips"),
        ("optimiser.method=sgd", "optimiser.method is 'sgd'; it must be one of adam, muon"),
        ("optimiser.learning_rate=2", "optimiser.learning_rate is 2.0; it must lie between 0 and 1"),
        ("optimiser.learning_rate=fast", "optimiser.learning_rate is 'fast'; it must be a number"),
        ("optimiser.betas=0.9", "optimiser.betas has 1 values; it takes 2, with commas between them"),
        ("optimiser.halve_at=a,b", "optimiser.halve_at is 'a'; it must be a whole number"),
        ("generator.channels=100000", "generator.channels is 100000; it must be at most 1024"),
        ("generator.scale=5", "generator.scale is 5; it must be one of (1, 2, 3, 4, 8)"),
        ("losses.l3=1", "losses.l3 is not a field; there are l1, l2, "),
        ("losses.l1=-1", "losses.l1 is -1.0; a loss weight must be finite and not negative"),
        ("losses.perceptual_layers=conv1_2", "losses.perceptual_layers is 'conv1_2'; it must be a group of the fields"),
        ("losses.perceptual_layers.conv5_4=0", "losses.perceptual_layers: every layer has weight 0"),
        ("losses.feature_scale=fast", "losses.feature_scale is 'fast'; it must be a number or one of auto, relative"),
        (
            "losses.adversarial_kind=gan",
            "losses.adversarial_kind is 'gan'; it must be one of relativistic, vanilla, hinge",
        ),
        ("batch=0", "batch is 0; it must be at least 1"),
        ("recipe=psnr_x4", "recipe cannot be set: it is the recipe that the command names"),
        ("starts_from=none", "starts_from cannot be set: it belongs to the recipe; name another one"),
        ("start=x.pth", "start cannot be set: it records the file of --start"),
        ("start.name=x.pth", "start.name cannot be set: it records the file of --start"),
        (
            "start_discriminator=x.pth",
            "start_discriminator cannot be set: it records the file of --start-discriminator",
        ),
        ("teacher=x.pth", "teacher cannot be set: it records the file of --teacher"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_field_value_and_choices(setting: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_settings(PSNR, [setting])
    assert complaint in str(error.value)


@pytest.mark.parametrize("written", ["", "{", "[1]", "null", "{}"])
def test_a_file_that_is_no_config_is_refused_by_name(written: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(written)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_config(tmp_path / "config.json")


def test_fields_that_an_older_version_did_not_write_have_their_defaults(tmp_path: Path) -> None:
    written = json.loads(PSNR.to_json())
    del written["accumulate"], written["optimiser"]["decay_steps"], written["generator"]["padding_mode"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert read_config(tmp_path / "config.json") == PSNR
