import time
from dataclasses import replace
from datetime import datetime

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.training.test_steps import GAN, batch, weights_and_optimisers
from training.pace import Pace, measuring_line, rehearse
from training.steps import Steps

CPU = torch.device("cpu")
NOON = datetime(2025, 3, 4, 12, 0)  # noqa: DTZ001  # the user's own clock
PACE = Pace(step_s=0.5, flop=2e11, memory_bytes=1_600_000_000)


def test_a_long_run_says_speed_work_memory_duration_and_end() -> None:
    assert PACE.line(2400, NOON) == (
        "2,400 steps at 2 steps/s (400 GFLOP/s, 1.6 GB): 20 min, until 12:20, and the time to cut crops and to measure"
    )


def test_a_run_that_ends_on_another_day_says_which() -> None:
    line = PACE.line(200_000, NOON)
    assert line is not None
    assert "27.8 h, until 2025-03-05 15:46" in line


def test_a_short_run_says_nothing() -> None:
    assert PACE.line(100, NOON) is None


def test_measurements_that_take_long_are_announced_from_the_time_of_one() -> None:
    assert measuring_line(61.2, 12) == "a measurement takes 61 s, and 12 more are to come: 12 min"
    assert measuring_line(61.2, 0) is None
    assert measuring_line(5, 11) is None


PSNR = replace(GAN, losses=replace(GAN.losses, adversarial=0.0), discriminator=None)


@pytest.mark.parametrize("config", [GAN, PSNR, replace(PSNR, losses=replace(PSNR.losses, artefacts=1.0))])
def test_the_work_of_a_step_is_what_torch_counts(config) -> None:  # type: ignore[no-untyped-def]
    low_res, high_res = batch()
    pace = rehearse(Steps(config, CPU), low_res, high_res)
    with FlopCounterMode(display=False) as counter:
        Steps(config, CPU).take(low_res, high_res)
    # the first convolution of a network passes no gradient on to the pictures, which the estimate leaves out of account
    assert pace.flop == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert pace.memory_bytes > 10_000_000
    assert pace.step_s > 0


def test_a_rehearsal_changes_nothing() -> None:
    run = Steps(GAN, CPU)
    before = weights_and_optimisers(run)
    buffers = [buffer.clone() for buffer in run.discriminator.net.buffers()]  # type: ignore[union-attr]  # GAN has one
    average = [weight.clone() for weight in run.average.parameters()]
    rehearse(run, *batch())
    torch.testing.assert_close(weights_and_optimisers(run), before, rtol=0, atol=0)
    assert all(map(torch.equal, run.discriminator.net.buffers(), buffers))  # type: ignore[union-attr]
    assert all(map(torch.equal, run.average.parameters(), average))
    assert run.done == 0


def test_the_time_of_a_step_includes_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Steps(PSNR, CPU)
    without_s = rehearse(run, *batch()).step_s
    update = run.generator.update

    def slow(step: int, steps: int) -> None:
        time.sleep(10 * without_s)
        update(step, steps)

    monkeypatch.setattr(run.generator, "update", slow)
    assert rehearse(run, *batch()).step_s > 5 * without_s
