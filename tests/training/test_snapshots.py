"""Weight files during a run and at its end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.files.checkpoint import read_checkpoint
from model.reliable import load
from tests.model.examples import random_net
from tests.training.test_resume import killed_in_step
from tests.training.tiny_runs import CPU, GAN, PSNR, equal, history, run_of, weights_of
from training import train as training_loop
from training.config import TrainingConfig
from training.snapshots import Origin
from training.train import train
from training.validation import PictureScores, Validation

LAST, BEST, FINAL = (f"tiny-psnr-x2{end}.safetensors" for end in ("-last", "-best", ""))


NO_WARMUP = replace(PSNR.optimiser, warmup_steps=0, decay_steps=0)


def files(out: Path) -> set[str]:
    return {path.name for path in out.glob("*.safetensors")}


def measuring(scores: list[float], monkeypatch: pytest.MonkeyPatch, measure: str = "psnr_y") -> None:
    """Let the measurements of a run come out like this, one after another; the first is bicubic's."""
    given = iter([0.0, *scores])

    def of_each(validation: Validation, upscale: Any) -> PictureScores:
        return {(measure, "clean", 0): next(given)}

    monkeypatch.setattr(Validation, "of_each", of_each)


def run_with(scores: list[float], out: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    """Measure after every step; returns the lines that the run reports."""
    lines: list[str] = []
    measuring(scores, monkeypatch, "lpips" if changes.get("best_by") == "lpips" else "psnr_y")
    train(run_of(replace(PSNR, validate_every=1, **changes), out, lines))
    return lines


def test_a_run_can_be_served_before_its_end(tmp_path: Path) -> None:
    killed_in_step(run_of(PSNR, tmp_path), 4)
    assert files(tmp_path) == {LAST, BEST}
    _, checkpoint = load(tmp_path / LAST, CPU)
    assert (checkpoint.card.name, checkpoint.card.steps) == ("tiny-psnr-x2-last", 3)
    measured = next(line["psnr_y"]["clean"] for line in history(tmp_path) if "psnr_y" in line)
    assert checkpoint.card.metrics["validation, clean"]["psnr_y"] == round(measured, 4)


def test_snapshots_hold_the_moving_average(tmp_path: Path) -> None:
    run = run_of(PSNR, tmp_path)
    killed_in_step(run, 3)
    average = run.steps.average.state_dict()
    for name, weight in weights_of(tmp_path / LAST).items():
        assert torch.equal(weight, average[name].half().float())


def test_the_best_is_kept_next_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run_with([20, 30, 10, 25, 30, 5], tmp_path, monkeypatch)
    assert files(tmp_path) == {FINAL, BEST}
    assert read_checkpoint(tmp_path / BEST).card.steps == 2  # step 5 was only as good
    assert read_checkpoint(tmp_path / FINAL).card.steps == 6
    assert lines[-1] == f"wrote {tmp_path / FINAL}; by psnr_y, step 2 was better: {tmp_path / BEST}"


def test_a_run_whose_last_step_is_the_best_leaves_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run_with([1, 2, 3, 4, 5, 6], tmp_path, monkeypatch)
    assert files(tmp_path) == {FINAL}
    assert lines[-1] == f"wrote {tmp_path / FINAL}"


def test_the_lowest_lpips_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_with([0.5, 0.2, 0.4, 0.3, 0.6, 0.7], tmp_path, monkeypatch, best_by="lpips")
    assert read_checkpoint(tmp_path / BEST).card.steps == 2


def test_patience_ends_a_run_and_leaves_its_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run_with([20, 30, 10, 25, 99, 99], tmp_path, monkeypatch, patience=2)
    assert files(tmp_path) == {FINAL, BEST}
    card = read_checkpoint(tmp_path / FINAL).card
    assert (card.name, card.steps, card.metrics) == ("tiny-psnr-x2", 2, {"validation, clean": {"psnr_y": 30.0}})
    assert history(tmp_path)[-1]["step"] == 4
    assert lines[-1] == f"wrote {tmp_path / FINAL}: the weights of step 2, the best by psnr_y"


@pytest.mark.parametrize(("patience", "ends_at"), [(2, 4), (0, 6)])
def test_a_run_that_patience_ended_goes_on_only_with_more_of_it(
    patience: int, ends_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with([20, 30, 10, 25], tmp_path, monkeypatch, patience=2)
    (tmp_path / FINAL).unlink()
    run_with([40, 50], tmp_path, monkeypatch, patience=patience)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["steps"]["done"] == ends_at


@pytest.mark.parametrize(("first", "steps"), [([20, 30, 10, 25], 2), ([20, 30], 2)])
def test_a_run_with_patience_that_goes_on_and_gets_no_better_gives_the_best_of_before(
    first: list[float], steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with(first, tmp_path, monkeypatch, patience=2, steps=len(first), optimiser=NO_WARMUP)
    (tmp_path / FINAL).unlink()
    run_with([26, 27, 26, 25], tmp_path, monkeypatch, patience=4, optimiser=NO_WARMUP)
    assert read_checkpoint(tmp_path / FINAL).card.steps == steps
    assert files(tmp_path) == {FINAL, BEST}


def test_the_best_before_a_kill_is_still_the_best_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
    config = replace(PSNR, validate_every=1)
    measuring([20, 30, 10], monkeypatch)
    killed_in_step(run_of(config, tmp_path), 3)
    measuring([25, 26, 27], monkeypatch)
    train(run_of(config, tmp_path))
    assert read_checkpoint(tmp_path / BEST).card.steps == 2


def started(config: TrainingConfig, out: Path) -> Path:
    start = random_net(config.generator)
    return train(run_of(replace(config, start="a file, sha256 0"), out, start=start))


def test_the_start_is_measured_first_and_is_the_best_if_nothing_beats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring([30, 20, 20], monkeypatch)
    started(PSNR, tmp_path)
    assert history(tmp_path)[0] == {"step": 0, "psnr_y": {"clean": 30}}
    best = read_checkpoint(tmp_path / BEST)
    assert best.card.steps == 0
    start = random_net(PSNR.generator).state_dict()
    assert all(torch.equal(weight, start[name].half().float()) for name, weight in best.net.state_dict().items())


@pytest.mark.parametrize("patience", [0, 2])
def test_the_start_of_a_gan_stage_is_never_its_best(
    patience: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring([0.1, 0.4, 0.3, 0.5, 0.5], monkeypatch, "lpips")
    config = replace(GAN, steps=4, validate_every=1, best_by="lpips", patience=patience, start="a file, sha256 0")
    lines: list[str] = []
    path = train(run_of(config, tmp_path, lines, start=random_net(GAN.generator)))
    assert read_checkpoint(tmp_path / "tiny-gan-x2-best.safetensors").card.steps == 2
    assert read_checkpoint(path).card.steps == (2 if patience else 4)
    assert "step 0 was better" not in lines[-1]


def test_a_run_that_began_with_a_start_is_resumed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = started(PSNR, tmp_path / "whole")
    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
    config = replace(PSNR, start="a file, sha256 0")
    killed_in_step(run_of(config, tmp_path / "cut", start=random_net(PSNR.generator)), 4)
    assert equal(started(PSNR, tmp_path / "cut"), whole)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")


def test_every_file_says_what_the_run_began_with(tmp_path: Path) -> None:
    origin = Origin(trained_on="mine", source="trained from x4plus, sha256 0", licence="BSD-3-Clause")
    path = train(replace(run_of(PSNR, tmp_path), origin=origin))
    card = read_checkpoint(path).card
    assert (card.data, card.source, card.licence) == ("mine", "trained from x4plus, sha256 0", "BSD-3-Clause")
