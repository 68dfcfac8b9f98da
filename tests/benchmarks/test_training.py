from dataclasses import replace

import pytest
import torch

from benchmarks.training import FORWARD, FORWARD_AND_BACKWARD, PLAIN, WHOLE, Kind, measured, report
from training.recipes import compact_psnr_x4


def nothing() -> None:
    """Take no time."""


KINDS = [
    Kind(PLAIN, nothing, FORWARD_AND_BACKWARD),
    Kind(f"{WHOLE}, L1", nothing, FORWARD_AND_BACKWARD),
    Kind("forward", nothing, FORWARD),
    Kind("cutting the crops", nothing),
]


def test_every_kind_is_run_in_turns_and_the_first_two_rounds_are_not_counted() -> None:
    order: list[str] = []
    kinds = [Kind(name, lambda name=name: order.append(name)) for name in ("one", "two")]  # type: ignore[misc]  # mypy cannot infer a default of a lambda
    assert len(measured(kinds, 1, torch.device("cpu"))) == 2
    assert order == ["one", "two"] * 3


def test_gflop_per_s_are_those_of_the_convolutions_of_the_generator() -> None:
    config = compact_psnr_x4()
    lines = list(report(config, KINDS, [2.0, 1.0, 0.5, 0.1], "cpu"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    flop = 2 * config.generator.macs_per_low_res_px * config.batch * config.crop_px**2
    speeds = [row[4] for row in rows]
    assert speeds == [f"{3 * flop / 2e9:.0f}", f"{3 * flop / 1e9:.0f}", f"{flop / 0.5e9:.0f}", ""]
    assert [row[5] for row in rows] == ["1.00 x", "2.00 x", "4.00 x", "20.00 x"]


@pytest.mark.parametrize(("steps", "hours"), [(7_200, "2.0"), (36_000, "10.0")])
def test_the_length_of_a_run_is_that_of_its_whole_steps(steps: int, hours: str) -> None:
    *_, last = report(replace(compact_psnr_x4(), steps=steps), KINDS, [2.0, 1.0, 0.5, 0.1], "cpu")
    assert f"A run of {steps:,} steps takes {hours} h" in last
