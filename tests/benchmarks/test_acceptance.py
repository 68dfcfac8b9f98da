"""The acceptance run on a GPU, rehearsed on the CPU: right numbers pass, wrong ones fail, and the report has both."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.acceptance.record import Record
from benchmarks.acceptance.runtime import Runtime
from benchmarks.rig.pictures import smooth_noise
from model.device import CPU
from model.transfer import Pixels
from model.upscaler import Upscaler
from tests.model.examples import random_net

SIDE = 24


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def runtime(record: Record) -> Runtime:
    return Runtime(record, random_net(), CPU, small=True)


def upscaler() -> Upscaler:
    return Upscaler(random_net(), CPU, torch.float32)


def test_every_way_of_a_right_network_passes(record: Record, runtime: Runtime) -> None:
    runtime.numbers(upscaler(), upscaler().upscale(smooth_noise(SIDE, SIDE)))
    assert [line.passed for line in record.lines] == [True] * 6


def test_a_way_that_gives_wrong_pixels_fails(record: Record, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = upscaler().upscale(smooth_noise(SIDE, SIDE))
    batch = Upscaler.batch

    def wrong(made_by: Upscaler, pictures: Sequence[Pixels]) -> list[Pixels]:
        return [255 - made for made in batch(made_by, pictures)] if len(pictures) > 1 else batch(made_by, pictures)

    monkeypatch.setattr(Upscaler, "batch", wrong)
    runtime.numbers(upscaler(), exact)
    assert record.failed == [": float32 padded"]


def test_float32_on_the_cpu_is_float32(record: Record, runtime: Runtime) -> None:
    record.run("environment", runtime.environment)
    assert record.failed == []


def test_a_stage_that_raises_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    def breaks() -> None:
        raise ArithmeticError("no such device")

    record = Record(report=tmp_path / "out" / "report.txt", title="Acceptance on cuda:0")

    record.run("first", breaks)
    record.run("second", lambda: record.check("holds", True, rate=1.23456))
    record.run("third", lambda: record.check("a figure", None, "for comparison", s=2))
    assert record.failed == ["first: runs to its end"]
    report = (tmp_path / "out" / "report.txt").read_text()
    assert "FAIL first: runs to its end (ArithmeticError: no such device)" in report
    assert "PASS second: holds rate=1.235" in report
    assert "---- third: a figure s=2 (for comparison)" in report
    assert report.startswith("Acceptance on cuda:0\n")
    assert report.endswith("\n1 of 2 checks failed\n")
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())) == 3


def test_a_report_that_is_cut_short_names_the_stage_that_did_not_end(tmp_path: Path) -> None:
    record = Record(report=tmp_path / "report.txt")
    record.run("first", lambda: record.check("holds", True))
    said: list[str] = []
    record.run("second", lambda: said.append((tmp_path / "report.txt").read_text()))
    assert "PASS first: holds" in said[0]
    assert "FAIL second: runs to its end" in said[0]
    assert (tmp_path / "report.txt").read_text().endswith("\n1 checks passed\n")


def test_a_figure_can_be_read_again(record: Record) -> None:
    record.stage = "ceilings"
    record.check("float32", None, TFLOPs=3.5)
    assert record.figure("ceilings", "float32", "TFLOPs") == 3.5
    assert record.figure("ceilings", "float16", "TFLOPs") is None
