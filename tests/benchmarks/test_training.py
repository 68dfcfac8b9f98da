import argparse
from dataclasses import replace

import pytest
import torch

from benchmarks.rig.report import Report
from benchmarks.rig.timing import Case
from benchmarks.training import PLAIN, WHOLE, count_flop, plain_step, print_medians
from model.rrdb import RRDBConfig
from training.config import TrainingConfig
from training.recipes import compact_psnr_x4, smoke


def nothing() -> None:
    """Replace the timing."""


CASES = {
    PLAIN: Case(run=nothing, flop=88e9),
    f"{WHOLE}, L1": Case(run=nothing, flop=88e9),
    "forward": Case(run=nothing, flop=22e9),
    "cutting the crops": Case(run=nothing),
}
SECONDS = dict(zip(CASES, (2.0, 1.0, 0.5, 0.1), strict=True))


def printed(config: TrainingConfig) -> None:
    report = Report("training", argparse.Namespace())
    report.setting("made", torch.device("cpu"))
    print_medians(report, config, CASES, SECONDS)


def test_gflop_per_s_are_those_of_the_convolutions(capsys: pytest.CaptureFixture[str]) -> None:
    printed(compact_psnr_x4())
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert [row[4] for row in rows] == ["44", "88", "44", ""]
    assert [row[5] for row in rows] == ["1.00 x", "2.00 x", "4.00 x", "20.00 x"]


def test_the_convolutions_of_a_plain_step_are_counted_forward_and_backward() -> None:
    config = replace(smoke(), generator=RRDBConfig(channels=8, growth=4, blocks=1), batch=1)
    low, high = (torch.zeros(1, 3, side, side, dtype=torch.uint8) for side in (8, 32))
    macs = config.generator.macs_per_low_res_px * 8 * 8
    first = 9 * 3 * 8 * 8 * 8  # multiply-adds of the first convolution, whose input needs no gradient
    assert count_flop(plain_step(config, low, high, torch.device("cpu"))) == 2 * (3 * macs - first)


@pytest.mark.parametrize(("steps", "hours"), [(7_200, "2.0"), (36_000, "10.0")])
def test_the_length_of_a_run_is_that_of_its_whole_steps(
    steps: int, hours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(replace(compact_psnr_x4(), steps=steps))
    assert f"A run of {steps:,} steps takes {hours} h" in capsys.readouterr().out
