"""Interrupted runs: killed, or started in the folder of another run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.model.examples import textured
from tests.training.photographs import made_pair, save
from tests.training.tiny_runs import GAN, PSNR, VALIDATION, equal, history, photographs_for, run_of
from training import train as training_loop
from training.__main__ import main
from training.config import OptimiserConfig, TrainingConfig
from training.crops import Batch, CropSource
from training.data import Pair
from training.recipes import RECIPES, smoke
from training.state import StateError, save_state, state_to_continue
from training.train import Run, train

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Simulates the end of the process; the training must not catch it."""


class Gone(CropSource):
    """A source at which the run is killed before it takes a step."""

    def __init__(self, crops: CropSource, step: int) -> None:
        self.crops, self.step = crops, step

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        yield from self.crops.batches(first_step, self.step)
        raise Killed


def killed_in_step(run: Run, step: int) -> None:
    """Kill a run in the given step."""
    crops = Gone(run.photographs.crops, step)
    with pytest.raises(Killed):
        train(replace(run, photographs=replace(run.photographs, crops=crops)))


def killed_at_validation(run: Run, step: int) -> None:
    """Kill it when the score of a step is in the history, and the state is not yet saved."""

    def kill(line: str) -> None:
        if line.startswith(f"step {step}:"):
            raise Killed

    with pytest.raises(Killed):
        train(replace(run, report=kill))


def save_after(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Let the minute between two saved states end after these steps alone, and after the last."""

    def save_if_due(path: Path, state: dict[str, Any]) -> None:
        if state["steps"]["done"] in {*steps, 9}:
            save_state(path, state)

    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(training_loop, "save_state", save_if_due)


@pytest.mark.parametrize("config", [PSNR, GAN], ids=["psnr", "gan"])
@pytest.mark.parametrize(
    ("saved", "kill", "step"),
    [
        ({1, 2, 3, 4, 5}, killed_in_step, 5),  # right after a state was saved
        ({3}, killed_in_step, 8),  # lines of steps 4 to 8 have to go, and the mean of 3 and 4 spans both sittings
        ({5}, killed_at_validation, 6),
        (set(), killed_in_step, 5),  # no state yet: everything from the beginning
    ],
    ids=["just saved", "long after", "validation", "never saved"],
)
def test_a_run_that_was_killed_goes_on_to_the_same_weights_and_history_bit_for_bit(
    config: TrainingConfig,
    saved: set[int],
    kill: Callable[[Run, int], None],
    step: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(config, steps=9)
    uninterrupted = train(run_of(config, tmp_path / "whole"))
    save_after(monkeypatch, saved)
    kill(run_of(config, tmp_path / "cut"), step)
    lines: list[str] = []
    resumed = train(run_of(config, tmp_path / "cut", lines))
    assert [line for line in lines if "continuing" in line] == (
        [f"continuing after step {max(saved)} of 9"] if saved else []
    )
    assert equal(resumed, uninterrupted)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")


def test_a_run_killed_while_it_exports_only_exports(tmp_path: Path) -> None:
    path = train(run_of(PSNR, tmp_path))
    path.rename(tmp_path / "before.safetensors")
    written = history(tmp_path)
    lines: list[str] = []
    assert train(run_of(PSNR, tmp_path, lines)) == path
    assert lines == ["continuing after step 6 of 6", f"wrote {path}"]
    assert equal(path, tmp_path / "before.safetensors")
    assert history(tmp_path) == written


def test_a_run_killed_early_is_continued_with_more_steps_and_other_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimiser = OptimiserConfig(learning_rate=1e-3, warmup_steps=2, decay_steps=3)
    longer = replace(PSNR, optimiser=optimiser, steps=9, validate_every=9, log_every=3)
    uninterrupted = train(run_of(longer, tmp_path / "whole"))
    save_after(monkeypatch, {3})
    killed_in_step(run_of(replace(longer, steps=6, validate_every=2), tmp_path / "cut"), 3)  # before its rate falls
    resumed = train(run_of(longer, tmp_path / "cut"))
    assert equal(resumed, uninterrupted)
    assert (tmp_path / "cut" / "config.json").read_text() == longer.to_json() + "\n"
    assert [line["step"] for line in history(tmp_path / "cut") if "psnr_y" in line] == [2, 9]
    assert [line["step"] for line in history(tmp_path / "cut") if "l1" in line] == [3, 6, 9]


def test_a_run_that_took_more_steps_than_it_is_now_given_is_refused_and_left_alone(tmp_path: Path) -> None:
    train(run_of(PSNR, tmp_path)).unlink()
    before = contents(tmp_path)
    with pytest.raises(StateError, match="holds a run of 6 steps already; give --steps 6 or more to continue it"):
        train(run_of(replace(PSNR, steps=5), tmp_path))
    assert contents(tmp_path) == before


def test_a_finished_run_is_trained_further_once_its_file_is_moved_away(tmp_path: Path) -> None:
    train(run_of(PSNR, tmp_path)).rename(tmp_path / "before.safetensors")
    lines: list[str] = []
    path = train(run_of(replace(PSNR, steps=8), tmp_path, lines))
    assert "continuing after step 6 of 8" in lines
    assert not equal(path, tmp_path / "before.safetensors")


@pytest.mark.parametrize(("fingerprint", "reported"), [("made", 0), ("others", 1)])
def test_other_photographs_than_the_run_began_with_are_reported(
    fingerprint: str, reported: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
    killed_in_step(run_of(PSNR, tmp_path), 3)
    lines: list[str] = []
    run = run_of(PSNR, tmp_path, lines)
    train(replace(run, photographs=photographs_for(PSNR, fingerprint)))
    assert sum("the photographs are not those that the run began with" in line for line in lines) == reported


OTHERS = [made_pair(9)]


@pytest.mark.parametrize(("pairs", "reported"), [(VALIDATION, 0), (OTHERS, 1), ([], 1), ([*VALIDATION, *OTHERS], 1)])
def test_other_pictures_to_measure_on_are_reported_and_choose_the_best_among_later_steps(
    pairs: list[Pair], reported: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
    killed_in_step(run_of(PSNR, tmp_path), 4)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["snapshots"]["best"]["score"] = 99.0
    save_state(tmp_path / "state.pt", state)
    lines: list[str] = []
    train(run_of(PSNR, tmp_path, lines, validation={"clean": pairs}))
    assert sum("the pictures to measure on are not those of before" in line for line in lines) == reported
    assert ("step 3 was better" in lines[-1]) == (not reported)


def test_the_state_of_an_older_version_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(run_of(PSNR, tmp_path / "whole"))
    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
    killed_in_step(run_of(PSNR, tmp_path / "cut"), 4)
    state = torch.load(tmp_path / "cut" / "state.pt", weights_only=True)
    for name in ("held_out", "bicubic"):
        del state[name]
    save_state(tmp_path / "cut" / "state.pt", state)
    lines: list[str] = []
    assert equal(train(run_of(PSNR, tmp_path / "cut", lines)), whole)
    assert not any("not those" in line for line in lines)


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a run's folder."""
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    train(run_of(PSNR, tmp_path))
    before = contents(tmp_path)
    with pytest.raises(StateError, match=r"tiny-psnr-x2\.safetensors exists: that run is finished; choose another"):
        train(run_of(PSNR, tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("other", [replace(PSNR, seed=1), GAN], ids=["seed", "recipe"])
@pytest.mark.parametrize("lost", [".safetensors", ".json"])
def test_the_folder_of_another_run_is_left_alone(other: TrainingConfig, lost: str, tmp_path: Path) -> None:
    train(run_of(PSNR, tmp_path)).unlink()  # as a killed run leaves it
    if lost == ".json":
        (tmp_path / "config.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(
        StateError, match=r"holds a run with other settings: .* choose another --out or remove the folder"
    ):
        train(run_of(other, tmp_path))
    assert contents(tmp_path) == before


def test_whether_a_run_may_be_made_is_known_before_any_work(tmp_path: Path) -> None:
    assert state_to_continue(tmp_path / "absent", PSNR) is None
    assert not (tmp_path / "absent").exists()
    train(run_of(PSNR, tmp_path))
    with pytest.raises(StateError, match="that run is finished"):
        state_to_continue(tmp_path, PSNR)
    with pytest.raises(StateError, match="other settings"):
        state_to_continue(tmp_path, GAN)


SCRIPT = """
import signal, sys
from dataclasses import replace

import torch

from training import train
from training.__main__ import main
from training.recipes import RECIPES, smoke

def save_and_wait(path, state):
    save(path, state)
    if state["steps"]["done"] == 24:
        signal.pause()  # so that the kill never comes too late, however fast the machine

torch.set_num_threads(int(sys.argv[1]))
save, train.save_state, train.SAVE_EVERY_S = train.save_state, save_and_wait, -1.0

def short_lines():
    "smoke, with lines every few steps"
    return replace(smoke(), log_every=4, validate_every=6)

RECIPES["smoke"] = short_lines
main(sys.argv[2:])
"""
"""`python -m training`, with a state after every step and lines every few."""


def short_lines() -> TrainingConfig:
    """The recipe of the script."""
    return replace(smoke(), log_every=4, validate_every=6)


def test_a_process_that_was_killed_goes_on_when_its_command_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(10):  # one of them is held out to measure on
        save(textured(100, 110, number), tmp_path / "photos" / f"{number}.png")
    command = ["smoke", "--data", str(tmp_path / "photos"), "--steps", "30", "--batch", "1", "--out"]
    (tmp_path / "smoke.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "smoke.py"), str(torch.get_num_threads()), *command, str(tmp_path / "cut")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)
            monkeypatch.setitem(RECIPES, "smoke", short_lines)
            assert main([*command, str(tmp_path / "whole")]) == 0
            lines = tmp_path / "cut" / "history.jsonl"
            while not (lines.exists() and lines.read_text()):
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "smoke-x4.safetensors").exists()
    capsys.readouterr()
    assert main([*command, str(tmp_path / "cut")]) == 0
    assert "continuing after step" in capsys.readouterr().out
    assert equal(tmp_path / "cut" / "smoke-x4.safetensors", tmp_path / "whole" / "smoke-x4.safetensors")
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
