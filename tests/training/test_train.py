import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint import read_checkpoint
from model.rrdb import ResidualDenseBlock, RRDBConfig
from model.upscaler import load
from tests.model.examples import textured
from training import train as training_loop
from training.config import TrainingConfig
from training.data import DataError, Pair
from training.degrade import shrink_bicubic
from training.metrics import psnr_y
from training.state import StateError
from training.train import Run, ema_decay_at, learning_rate_at, new_generator, train, update_average, validate

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    name="tiny-psnr-x2",
    generator=RRDBConfig(channels=6, blocks=1, growth=3, scale=2),
    steps=6,
    batch=2,
    crop_px=8,
    learning_rate=3e-3,
    warmup_steps=2,
    ema_decay=0.9,
    validate_every=3,
)


def pair(seed: int) -> Pair:
    high_res = textured(48, 64, seed)
    return Pair(f"made {seed}", shrink_bicubic(high_res, 2), high_res)


PHOTOGRAPHS = [pair(1), pair(2)]
VALIDATION = [pair(3)]


def run_to_the_end(config: TrainingConfig, out: Path, lines: list[str] | None = None) -> Path:
    report = (lines if lines is not None else []).append
    return train(config, PHOTOGRAPHS, VALIDATION, out, trained_on="noise (CC0)", device=CPU, report=report)


def history(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def weights_of(path: Path) -> dict[str, Tensor]:
    return read_checkpoint(path).net.state_dict()


def test_training_lowers_the_l1_loss(tmp_path: Path) -> None:
    run_to_the_end(replace(CONFIG, steps=60, validate_every=10), tmp_path)
    losses = [line["l1"] for line in history(tmp_path)]
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]


def test_the_exported_file_serves(tmp_path: Path) -> None:
    upscaler, checkpoint = load(run_to_the_end(CONFIG, tmp_path / "run"), CPU)
    picture = textured(10, 7).permute(1, 2, 0)[None].numpy()
    assert upscaler.upscale(picture).shape == (1, 20, 14, 3)
    assert checkpoint.net.config == CONFIG.generator
    assert (checkpoint.card.name, checkpoint.card.recipe) == ("tiny-psnr-x2", "tiny_psnr_x2")
    assert (checkpoint.card.steps, checkpoint.card.data) == (6, "noise (CC0)")


def test_the_exported_weights_are_the_average_rounded_to_float16(tmp_path: Path) -> None:
    exported = weights_of(run_to_the_end(CONFIG, tmp_path))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for name, weight in exported.items():
        assert torch.equal(weight, state["average"][name].half().float())
        assert not torch.equal(weight, state["net"][name].half().float())


def test_the_file_says_the_last_validation_score(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(run_to_the_end(CONFIG, tmp_path))
    score = history(tmp_path)[-1]["psnr_y"]
    assert checkpoint.card.metrics == {"validation": {"psnr_y": round(score, 3)}}


def test_a_run_without_validation_pictures_exports_no_score(tmp_path: Path) -> None:
    path = train(CONFIG, PHOTOGRAPHS, [], tmp_path, trained_on="noise", device=CPU, report=lambda line: None)
    assert read_checkpoint(path).card.metrics == {}


def test_the_config_is_written_beside_what_it_made(tmp_path: Path) -> None:
    run_to_the_end(CONFIG, tmp_path)
    assert (tmp_path / "config.json").read_text() == CONFIG.to_json() + "\n"


def test_progress_is_reported_at_every_validation_and_at_the_end(tmp_path: Path) -> None:
    lines: list[str] = []
    run_to_the_end(replace(CONFIG, steps=7), tmp_path, lines)
    assert [line["step"] for line in history(tmp_path)] == [3, 6, 7]
    assert all(re.fullmatch(r"step \d: L1 \d\.\d{5}, PSNR-Y -?\d+\.\d{3} dB", line) for line in lines)


def test_equal_runs_give_equal_weights(tmp_path: Path) -> None:
    one, other = (weights_of(run_to_the_end(CONFIG, tmp_path / name)) for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    """What ends a process ends it here too: nothing in the training may catch it."""


@pytest.mark.parametrize("killed_at", [3, 6])
def test_a_run_that_was_killed_goes_on_to_the_same_weights_bit_for_bit(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, steps=8)
    uninterrupted = weights_of(run_to_the_end(config, tmp_path / "whole"))

    def kill(line: str) -> None:
        if line.startswith(f"step {killed_at}:"):
            raise Killed

    monkeypatch.setattr(training_loop, "SAVE_EVERY_S", -1.0)  # after every step
    with pytest.raises(Killed):
        train(config, PHOTOGRAPHS, VALIDATION, tmp_path / "cut", trained_on="noise", device=CPU, report=kill)
    lines: list[str] = []
    resumed = weights_of(run_to_the_end(config, tmp_path / "cut", lines))
    assert lines[0] == f"continuing after step {killed_at - 1} of 8"  # that step was the last one saved
    assert all(torch.equal(resumed[name], weight) for name, weight in uninterrupted.items())


def test_a_run_killed_while_it_exports_only_exports(tmp_path: Path) -> None:
    path = run_to_the_end(CONFIG, tmp_path)
    before = weights_of(path)
    path.unlink()
    lines: list[str] = []
    after = weights_of(run_to_the_end(CONFIG, tmp_path, lines))
    assert lines == ["continuing after step 6 of 6"]
    assert read_checkpoint(path).card.metrics["validation"]["psnr_y"] > 0
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    path = run_to_the_end(CONFIG, tmp_path)
    before = path.read_bytes()
    with pytest.raises(
        StateError, match=r"tiny-psnr-x2\.safetensors exists: that run is finished; choose another --out"
    ):
        run_to_the_end(CONFIG, tmp_path)
    assert path.read_bytes() == before


def test_a_folder_with_another_run_is_not_continued(tmp_path: Path) -> None:
    run_to_the_end(CONFIG, tmp_path).unlink()
    with pytest.raises(StateError, match="holds a run with other settings"):
        run_to_the_end(replace(CONFIG, seed=1), tmp_path)
    assert (tmp_path / "config.json").read_text() == CONFIG.to_json() + "\n"


def test_training_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photograph of the folder can be used"):
        train(CONFIG, [], VALIDATION, tmp_path, trained_on="", device=CPU, report=lambda line: None)


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
    config = replace(CONFIG, steps=20, warmup_steps=4, learning_rate=0.01)
    assert learning_rate_at(config, step) == pytest.approx(0.01 * share)


def test_without_a_warm_up_the_learning_rate_starts_at_its_peak() -> None:
    assert learning_rate_at(replace(CONFIG, warmup_steps=0), 0) == CONFIG.learning_rate


def test_the_optimiser_takes_the_scheduled_learning_rate() -> None:
    run = Run(CONFIG, CPU)
    crops = PHOTOGRAPHS[0].low_res[None, :, :8, :8], PHOTOGRAPHS[0].high_res[None, :, :16, :16]
    for step in range(4):
        run.advance(*crops)
        assert run.optimiser.param_groups[0]["lr"] == learning_rate_at(CONFIG, step)


def test_one_step_reports_the_mean_absolute_error_before_it() -> None:
    run = Run(CONFIG, CPU)
    low, high = PHOTOGRAPHS[0].low_res[None, :, :8, :8], PHOTOGRAPHS[0].high_res[None, :, :16, :16]
    with torch.no_grad():
        expected = (run.net(low.float() / 255) - high.float() / 255).abs().mean().item()
    assert run.advance(low, high) == pytest.approx(expected, rel=1e-2)  # bfloat16 where the processor has it


@pytest.mark.parametrize(("step", "decay"), [(0, 1 / 10), (1, 2 / 11), (8, 9 / 18), (10**6, 0.9)])
def test_the_average_forgets_fast_at_first(step: int, decay: float) -> None:
    assert ema_decay_at(CONFIG, step) == pytest.approx(decay)


def test_one_step_of_the_average_keeps_the_share_that_decay_says() -> None:
    average, net = nn.Linear(1, 2), nn.Linear(1, 2)
    for layer, value in ((average, 1.0), (net, 3.0)):
        nn.init.constant_(layer.weight, value)
        nn.init.constant_(layer.bias, 10 * value)
    update_average(average, net, 0.9)
    torch.testing.assert_close(average.weight, torch.full((2, 1), 1.2))  # 0.9 * 1 + 0.1 * 3
    torch.testing.assert_close(average.bias, torch.full((2,), 12.0))
    assert (net.weight == 3).all()


def test_a_step_moves_the_average_towards_the_trained_weights() -> None:
    run = Run(CONFIG, CPU)
    before = run.average.conv_hr.weight.clone()
    run.advance(PHOTOGRAPHS[0].low_res[None, :, :8, :8], PHOTOGRAPHS[0].high_res[None, :, :16, :16])
    trained = run.net.conv_hr.weight.detach()
    torch.testing.assert_close(run.average.conv_hr.weight, 0.1 * before + 0.9 * trained)
    assert not torch.equal(before, trained)


def test_equal_seeds_start_with_equal_weights_and_others_do_not() -> None:
    torch.manual_seed(5)
    one, same, other = (new_generator(replace(CONFIG, seed=seed)).conv_hr.weight for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_dense_blocks_start_ten_times_smaller_than_he() -> None:
    net = new_generator(replace(CONFIG, generator=RRDBConfig(channels=32, blocks=1, growth=32, scale=2)))
    he = math.sqrt(2 / (9 * 32))
    assert net.conv_hr.weight.std().item() == pytest.approx(he, rel=0.05)
    block = next(block for block in net.modules() if isinstance(block, ResidualDenseBlock))
    assert block.conv1.weight.std().item() == pytest.approx(0.1 * he, rel=0.05)
    assert all(not weight.any() for name, weight in net.named_parameters() if name.endswith("bias"))


def test_validation_is_the_mean_psnr_of_whole_pictures() -> None:
    net = new_generator(CONFIG).requires_grad_(False)
    scores = []
    for example in (pair(3), pair(4)):
        upscaled = net(example.low_res[None].float() / 255)[0].mul(255).round().clamp(0, 255).byte()
        scores.append(psnr_y(upscaled, example.high_res, border=2))
    assert validate(net, [pair(3), pair(4)]) == pytest.approx(sum(scores) / 2, abs=0.01)
