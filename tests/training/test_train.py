import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from model.files.checkpoint import read_checkpoint, reference_output
from model.reliable import load
from tests.model.examples import textured
from tests.training.photographs import made_pair
from tests.training.tiny_runs import CPU, GAN, PSNR, VALIDATION, equal, history, photographs_for, run_of, weights_of
from training import pace
from training import train as training_train
from training.config import TrainingConfig
from training.damage import DAMAGES, Damage, damaged_pair
from training.data import Pair
from training.journal import PANEL_PX
from training.loss_config import LossConfig
from training.steps import DivergedError
from training.train import train, ways_to_need_less
from training.validation import Validation, common_means


def test_training_lowers_the_l1_loss(tmp_path: Path) -> None:
    train(run_of(replace(PSNR, steps=60, log_every=10, validate_every=60), tmp_path))
    losses = [line["l1"] for line in history(tmp_path) if "l1" in line]
    assert len(losses) == 6
    assert losses[-1] < 0.6 * losses[0]


def test_a_gan_run_writes_down_the_losses_of_both_networks(tmp_path: Path) -> None:
    train(run_of(GAN, tmp_path))
    losses = [line for line in history(tmp_path) if "l1" in line]
    assert len(losses) == 3
    for line in losses:
        norms = {"generator_gradient", "discriminator_gradient"}
        assert {"l1", "adversarial", "discriminator"} | norms < line.keys()
        assert all(math.isfinite(value) for value in line.values())


def test_the_history_has_a_line_for_every_nth_step_and_the_last(tmp_path: Path) -> None:
    train(run_of(replace(PSNR, steps=7), tmp_path))
    lines = history(tmp_path)
    assert [line["step"] for line in lines if "l1" in line] == [2, 4, 6, 7]
    assert [line["step"] for line in lines if "psnr_y" in line] == [3, 6, 7]
    assert [line["learning_rate"] for line in lines if "l1" in line] == [
        PSNR.optimiser.rate_at(step, 7) for step in (1, 3, 5, 6)
    ]


def test_every_validation_is_reported_next_to_bicubic(tmp_path: Path) -> None:
    lines: list[str] = []
    train(run_of(PSNR, tmp_path, lines))
    line_of = r"step (\d): PSNR-Y in dB: clean -?\d+\.\d{3} \(bicubic (\d+\.\d{3})\); colour shift: clean .*"
    scores = [re.fullmatch(line_of, line) for line in lines]
    assert [score[1] for score in scores if score] == ["3", "6"]
    assert len({score[2] for score in scores if score}) == 1


def test_the_time_of_the_measurements_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LONG_S", 0.0)
    lines: list[str] = []
    train(run_of(replace(PSNR, steps=7, log_every=7), tmp_path, lines))
    assert len([line for line in lines if line.startswith("a measurement takes 0 s, and 2 more are to come")]) == 1


def test_a_panel_of_the_validation_pictures_is_drawn(tmp_path: Path) -> None:
    train(run_of(PSNR, tmp_path, validation={"clean": [made_pair(seed) for seed in range(8)]}))
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.size == (4 * 128, 6 * 128)  # six of the eight


def by_damage(pairs: list[Pair]) -> dict[Damage, list[Pair]]:
    """The same pictures as each kind of upload."""
    return {damage: [damaged_pair(pair, damage) for pair in pairs] for damage in DAMAGES}


def test_every_kind_of_upload_is_measured_by_itself(tmp_path: Path) -> None:
    validation = by_damage([made_pair(3, height=64, width=64), made_pair(4, height=64, width=80)])
    path = train(run_of(PSNR, tmp_path, validation=validation))
    net = read_checkpoint(path).net.half().float()  # as it was exported
    each = Validation(pairs=validation).of_each(lambda low_res: reference_output(net, low_res))
    scores, _ = common_means(each, each)
    last = history(tmp_path)[-1]
    for measure in ("psnr_y", "colour_shift"):  # measured before the rounding to float16
        assert last[measure] == pytest.approx(scores[measure], abs=0.05)
    assert read_checkpoint(path).card.metrics == {
        f"validation, {damage}": {measure: round(last[measure][damage], 4) for measure in scores} for damage in DAMAGES
    }


def test_a_panel_shows_every_kind_of_upload_of_one_picture(tmp_path: Path) -> None:
    pairs = [made_pair(seed, height=256, width=256) for seed in (3, 4)]
    train(run_of(PSNR, tmp_path, validation=by_damage(pairs)))
    with Image.open(tmp_path / "panel.png") as panel:
        rows = torch.from_numpy(numpy.array(panel)).split(PANEL_PX)
    originals = [row[:, -PANEL_PX:] for row in rows]
    assert len(rows) == len(DAMAGES)
    assert all(torch.equal(original, originals[0]) for original in originals)
    assert len({row[:, :PANEL_PX].numpy().tobytes() for row in rows}) == len(DAMAGES)


def test_the_exported_file_serves(tmp_path: Path) -> None:
    upscaler, checkpoint = load(train(run_of(PSNR, tmp_path / "run")), CPU)
    picture = textured(10, 7).permute(1, 2, 0)[None].contiguous().numpy()
    assert upscaler.upscale(picture).shape == (1, 20, 14, 3)
    assert checkpoint.net.config == PSNR.generator
    assert (checkpoint.card.name, checkpoint.card.recipe) == ("tiny-psnr-x2", "tiny_psnr_x2")
    assert (checkpoint.card.steps, checkpoint.card.data) == (6, "noise (CC0)")
    assert torch.equal(checkpoint.golden_input, VALIDATION[0].low_res[:, :32, :40])


def test_the_exported_weights_are_the_average_rounded_to_float16(tmp_path: Path) -> None:
    exported = weights_of(train(run_of(PSNR, tmp_path)))
    steps = torch.load(tmp_path / "state.pt", weights_only=True)["steps"]
    for name, weight in exported.items():
        assert torch.equal(weight, steps["average"][name].half().float())
        assert not torch.equal(weight, steps["generator"]["net"][name].half().float())


def test_a_run_that_skipped_every_step_has_no_result(tmp_path: Path) -> None:
    huge = replace(PSNR, losses=LossConfig(l1=1e39))  # finite, and not in float32
    for _ in range(2):  # nor if it is continued
        with pytest.raises(
            DivergedError, match=r"^all 6 steps gave losses or gradients that are not finite .* --out NEW"
        ):
            train(run_of(huge, tmp_path))
        assert not (tmp_path / f"{PSNR.name}.safetensors").exists()


def test_a_run_says_at_its_end_how_many_steps_it_skipped(tmp_path: Path) -> None:
    lines: list[str] = []
    run = run_of(PSNR, tmp_path, lines)
    run.steps.skipped = 2
    train(run)
    assert "2 of 6 steps were skipped: their losses or gradients were not finite" in lines


def test_the_file_says_the_last_validation_score(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(train(run_of(PSNR, tmp_path)))
    last = history(tmp_path)[-1]
    assert checkpoint.card.metrics == {
        "validation, clean": {measure: round(last[measure]["clean"], 4) for measure in ("psnr_y", "colour_shift")}
    }


@pytest.mark.parametrize("validation", [{}, {"clean": []}], ids=["no kind", "no picture"])
def test_a_run_without_validation_pictures_has_no_score_and_a_golden_picture_from_its_crops(
    validation: dict[Damage, list[Pair]], tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(train(run_of(PSNR, tmp_path, validation=validation)))
    assert checkpoint.card.metrics == {}
    assert not any("psnr_y" in line for line in history(tmp_path))
    ((low_res, _),) = photographs_for(PSNR).crops.batches(0, 1)
    assert torch.equal(checkpoint.golden_input, low_res[0])


def test_the_config_is_written_next_to_the_weights(tmp_path: Path) -> None:
    train(run_of(GAN, tmp_path))
    assert (tmp_path / "config.json").read_text() == GAN.to_json() + "\n"


@pytest.mark.parametrize("config", [PSNR, GAN], ids=["psnr", "gan"])
def test_equal_runs_give_equal_weights_and_histories(config: TrainingConfig, tmp_path: Path) -> None:
    one, other = (train(run_of(config, tmp_path / name)) for name in ("one", "other"))
    assert equal(one, other)
    assert history(tmp_path / "one") == history(tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        (
            {"batch": 6, "accumulate": 2},
            "--set accumulate=3, which takes the batch in more parts, or checkpointing=true",
        ),
        ({"batch": 6, "accumulate": 3, "checkpointing": True}, "--set accumulate=6, which takes the batch in more"),
        ({"batch": 6, "accumulate": 6}, "--set checkpointing=true"),
        ({"batch": 1, "checkpointing": True}, "take smaller crops or batches"),
    ],
)
def test_an_error_of_memory_names_a_setting_that_is_allowed(changes: dict[str, Any], ways: str) -> None:
    assert ways in ways_to_need_less(replace(PSNR, **changes))


@pytest.mark.parametrize(
    ("accumulate", "ways"),
    [(3, "--set accumulate=6, which takes the batch in more"), (6, "--set checkpointing=true")],
)
def test_an_error_of_memory_names_parts_that_are_smaller_in_a_share_of_the_batch(
    accumulate: int, ways: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_train, "processes", lambda: 2)
    assert ways in ways_to_need_less(replace(PSNR, batch=12, accumulate=accumulate))
