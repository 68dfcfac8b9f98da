import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from tests.model.examples import textured
from tests.training.tiny_runs import PSNR
from training import journal as journal_module
from training.journal import PANEL_PX, Journal
from training.state import load_state, save_state


@dataclass
class Clock:
    """Clock that only tests advance."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        """The time in s."""
        return self.now_s


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(journal_module, "time", clock)
    return clock


def ignore(line: str) -> None:
    """No line is of interest."""


def opened(out: Path, *, done: int = 0, state: dict[str, Any] | None = None) -> closing[Journal]:
    return closing(Journal(out, steps=100, done=done, state=state, report=ignore))


def through_the_disk(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Save a state, and read it as a resumed run does."""
    save_state(folder / "state.pt", {"config": PSNR.to_json(), "journal": state})
    loaded = load_state(folder / "state.pt", PSNR)
    assert loaded is not None
    journal: dict[str, Any] = loaded["journal"]
    return journal


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def write_steps(journal: Journal, steps: Iterator[int] | range) -> None:
    """A line of losses and one of a score for each step."""
    for step in steps:
        journal.count({"l1": step / 10})
        journal.write_losses(step, learning_rate=0.1, skipped=0)
        journal.write_scores(step, {"psnr_y": {"clean": 20 + step}}, {"psnr_y": {"clean": 19}})


def test_a_line_holds_the_mean_losses_since_the_line_before(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for l1, adversarial in ((0.5, 2.0), (0.25, 4.0)):
            journal.count({"l1": l1, "adversarial": adversarial})
        journal.write_losses(2, learning_rate=0.125, skipped=1)
        journal.count({"l1": 8.0, "adversarial": 1.0})
        journal.write_losses(3, learning_rate=0.0625, skipped=1)
    assert history(tmp_path) == [
        {"step": 2, "seconds": 0, "l1": 0.375, "adversarial": 3.0, "learning_rate": 0.125, "skipped": 1},
        {"step": 3, "seconds": 0, "l1": 8.0, "adversarial": 1.0, "learning_rate": 0.0625, "skipped": 1},
    ]


def test_the_scores_of_a_step_are_a_line_and_are_reported_next_to_bicubic(tmp_path: Path) -> None:
    lines: list[str] = []
    with closing(Journal(tmp_path, steps=9, done=0, state=None, report=lines.append)) as journal:
        journal.write_scores(
            3,
            {"psnr_y": {"clean": 30.12345, "web50": 26.5}, "lpips": {"clean": 0.25, "web50": 0.5}},
            {"psnr_y": {"clean": 28.5, "web50": 25.25}, "lpips": {"clean": 0.375, "web50": 0.75}},
        )
    assert history(tmp_path) == [
        {
            "step": 3,
            "seconds": 0,
            "psnr_y": {"clean": 30.12345, "web50": 26.5},
            "lpips": {"clean": 0.25, "web50": 0.5},
        }
    ]
    assert lines == [
        "step 3: PSNR-Y in dB: clean 30.123 (bicubic 28.500), web50 26.500 (bicubic 25.250); "
        "LPIPS: clean 0.250 (bicubic 0.375), web50 0.500 (bicubic 0.750)"
    ]


def test_the_start_is_measured_once_also_if_the_run_was_killed_before_its_first_state(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path) as journal:
            write_steps(journal, range(1))
    assert [line["step"] for line in history(tmp_path)] == [0, 0]  # its losses and its scores
    assert points(tmp_path, "validation/psnr_y/clean") == [(0, 20)]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_losses_that_are_not_finite_are_left_out_of_the_means(broken: float, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for l1, adversarial in ((1.0, 3.0), (100.0, broken), (2.0, 5.0)):
            journal.count({"l1": l1, "adversarial": adversarial})
        journal.write_losses(3, learning_rate=0.1, skipped=1)
    (line,) = history(tmp_path)
    assert (line["l1"], line["adversarial"]) == (1.5, 4.0)


def test_a_line_without_any_finite_loss_has_no_means(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.count({"l1": float("nan")})
        journal.write_losses(1, learning_rate=0.1, skipped=1)
    assert history(tmp_path) == [{"step": 1, "seconds": 0, "learning_rate": 0.1, "skipped": 1}]


def test_the_seconds_are_those_of_all_sittings(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path) as journal:
        clock.now_s += 30.4
        state = through_the_disk(journal.state(), tmp_path)
        clock.now_s += 500  # lost with the kill
    clock.now_s = 3.0  # another boot
    with opened(tmp_path, done=1, state=state) as journal:
        clock.now_s += 20.2
        assert journal.seconds == pytest.approx(50.6)
        journal.write_scores(2, {"psnr_y": {"clean": 30}}, {"psnr_y": {"clean": 29}})
    assert history(tmp_path)[-1]["seconds"] == 51


def test_the_means_go_on_after_a_kill_as_if_there_had_been_none(tmp_path: Path) -> None:
    losses = [0.1, 0.7, 1 / 3, 0.2]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with opened(whole) as journal:
        for loss in losses:
            journal.count({"l1": loss})
        journal.write_losses(4, learning_rate=0.1, skipped=0)
    with opened(cut) as journal:
        for loss in losses[:2]:
            journal.count({"l1": loss})
        state = through_the_disk(journal.state(), cut)
        journal.count({"l1": 99.0})  # after the state was saved: the kill takes it away
    with opened(cut, done=2, state=state) as journal:
        for loss in losses[2:]:
            journal.count({"l1": loss})
        journal.write_losses(4, learning_rate=0.1, skipped=0)
    assert history(cut) == history(whole)


def test_lines_after_the_step_that_a_run_goes_on_from_are_dropped(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 6))
    with opened(tmp_path, done=3):
        pass
    assert [line["step"] for line in history(tmp_path)] == [1, 1, 2, 2, 3, 3]


def test_a_run_that_was_killed_before_its_first_state_begins_a_new_history(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 3))
    with opened(tmp_path):
        pass
    assert history(tmp_path) == []


@pytest.mark.parametrize("half", ['{"st', '{"step": 3}', "{"], ids=["cut", "no end of line", "one sign"])
def test_half_a_line_at_the_end_is_dropped(half: str, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 3))
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write(half)
    with opened(tmp_path, done=9) as journal:
        write_steps(journal, range(10, 11))
    assert [line["step"] for line in history(tmp_path)] == [1, 1, 2, 2, 10, 10]


@pytest.mark.parametrize(
    "damaged", [b"{nonsense\n", b'{"stop": 2}\n', b'{"step": "2"}\n', b"2\n", b"\0\0\0\n", b"\xff\n"]
)
def test_a_damaged_line_is_dropped_and_those_behind_it_stay(damaged: bytes, tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 4))
    path = tmp_path / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], damaged, *lines[2:]]))
    with opened(tmp_path, done=2):
        pass
    assert path.read_bytes().splitlines(keepends=True) == lines[:4]


def test_cutting_back_leaves_no_other_file_behind(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 3))
    with opened(tmp_path, done=1):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"history.jsonl", "tensorboard"}


def row_of(side: int, low_side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A low-res picture and three high-res ones, each of its own colour."""
    colours = [torch.full((3, 1, 1), level, dtype=torch.uint8) for level in (10, 20, 30, 40)]
    low, *high = (
        colour.expand(3, size, size) for colour, size in zip(colours, (low_side, side, side, side), strict=True)
    )
    return low, high[0], high[1], high[2]


def test_a_panel_shows_four_pictures_side_by_side_in_each_row(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.show(1, [row_of(128, 32), row_of(40, 10), row_of(64, 64)])
    with Image.open(tmp_path / "panel.png") as panel:
        pixels = numpy.array(panel)
    assert pixels.shape == (3 * PANEL_PX, 4 * PANEL_PX, 3)
    for column, level in enumerate((10, 20, 30, 40)):
        assert (pixels[:, column * PANEL_PX : (column + 1) * PANEL_PX] == level).all()


def test_a_high_res_picture_of_the_panels_size_is_shown_pixel_by_pixel(tmp_path: Path) -> None:
    high_res = textured(PANEL_PX, PANEL_PX)
    with opened(tmp_path) as journal:
        journal.show(1, [(high_res[:, ::4, ::4], high_res, high_res, high_res)])
    with Image.open(tmp_path / "panel.png") as panel:
        pixels = torch.from_numpy(numpy.array(panel)).permute(2, 0, 1)
    assert torch.equal(pixels[:, :, -PANEL_PX:], high_res)
    assert torch.equal(pixels[:, ::4, :PANEL_PX:4], high_res[:, ::4, ::4])


def curves(out: Path) -> EventAccumulator:
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return events


def points(out: Path, curve: str) -> list[tuple[int, float]]:
    """Step and value of each point that TensorBoard shows."""
    return [(point.step, round(point.value, 4)) for point in curves(out).Scalars(curve)]


def test_tensorboard_shows_the_curves_of_the_history(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 4))
    assert points(tmp_path, "loss/l1") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert points(tmp_path, "validation/psnr_y/clean") == [(1, 21), (2, 22), (3, 23)]
    assert points(tmp_path, "learning_rate") == [(1, 0.1), (2, 0.1), (3, 0.1)]


def test_tensorboard_shows_a_run_that_went_on_as_if_it_had_never_ended(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write_steps(journal, range(1, 5))
    with opened(tmp_path, done=2) as journal:
        write_steps(journal, range(3, 6))
    assert points(tmp_path, "loss/l1") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)]


def test_tensorboard_shows_the_panel(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.show(7, [row_of(128, 32)])
    (shown,) = curves(tmp_path).Images("low_res | bicubic | upscaled | high_res")
    assert (shown.step, shown.width, shown.height) == (7, 4 * PANEL_PX, PANEL_PX)
