import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from model.rrdb import RRDBConfig
from training.config import TrainingConfig
from training.recipes import RECIPES, compact_psnr_x4

CONFIG = TrainingConfig(
    name="tiny-psnr-x4",
    generator=RRDBConfig(channels=4, blocks=1, growth=2, scale=4),
    steps=100,
    batch=2,
    crop_px=8,
    learning_rate=1e-3,
    warmup_steps=10,
    ema_decay=0.9,
    validate_every=50,
)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("steps", 0, "steps is 0; it must be at least 1"),
        ("batch", 0, "batch is 0; it must be at least 1"),
        ("crop_px", -8, "crop_px is -8; it must be at least 1"),
        ("validate_every", 0, "validate_every is 0; it must be at least 1"),
        ("learning_rate", 0.0, "learning_rate is 0.0; it must lie between 0 and 1"),
        ("learning_rate", -1e-4, "learning_rate is -0.0001; it must lie between 0 and 1"),
        ("learning_rate", 1.0, "learning_rate is 1.0; it must lie between 0 and 1"),
        ("learning_rate", float("nan"), "learning_rate is nan; it must lie between 0 and 1"),
        ("warmup_steps", -1, "warmup_steps is -1; it must be less than steps = 100"),
        ("warmup_steps", 100, "warmup_steps is 100; it must be less than steps = 100"),
        ("seed", -1, "seed is -1; it must not be negative"),
        ("ema_decay", 1.0, r"ema_decay is 1.0; it must be in \[0, 1\)"),
        ("ema_decay", -0.1, r"ema_decay is -0.1; it must be in \[0, 1\)"),
    ],
)
def test_a_number_out_of_its_range_is_refused(field: str, value: float, reason: str) -> None:
    change: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=reason):
        replace(CONFIG, **change)


def test_the_edges_of_the_ranges_are_allowed() -> None:
    replace(CONFIG, steps=1, batch=1, crop_px=1, validate_every=1, warmup_steps=0, ema_decay=0.0)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CONFIG.steps = 3  # type: ignore[misc]  # that is the point


def test_a_config_is_written_with_every_field(tmp_path: Path) -> None:
    CONFIG.write(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "name": "tiny-psnr-x4",
        "generator": {"channels": 4, "blocks": 1, "growth": 2, "scale": 4},
        "steps": 100,
        "batch": 2,
        "crop_px": 8,
        "learning_rate": 0.001,
        "warmup_steps": 10,
        "ema_decay": 0.9,
        "validate_every": 50,
        "seed": 0,
    }


def test_configs_that_differ_anywhere_differ_in_text() -> None:
    generator = replace(CONFIG.generator, growth=3)
    others = [replace(CONFIG, seed=1), replace(CONFIG, generator=generator), replace(CONFIG, learning_rate=2e-3)]
    assert len({config.to_json() for config in (CONFIG, *others)}) == 4


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_returns_a_whole_config_named_after_it(name: str) -> None:
    config = RECIPES[name]()
    assert config.name == name.replace("_", "-")
    assert config == RECIPES[name]()


def test_the_compact_recipe_makes_what_two_cores_can_serve() -> None:
    generator = compact_psnr_x4().generator
    assert (generator.channels, generator.blocks, generator.growth, generator.scale) == (32, 8, 16, 4)
    assert generator.macs_per_low_res_px <= 1_800_000
