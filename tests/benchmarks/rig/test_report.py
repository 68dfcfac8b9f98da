"""Recorded figures include the command, the machine and the commit."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks.rig.machine import described
from benchmarks.rig.report import Report

CPU = torch.device("cpu")


def run(folder: Path, *, record: bool, fails: bool = False) -> None:
    options = argparse.Namespace(record=record, picture=Path("/somewhere/heron.png"), rounds=3)
    with Report("speed", options, folder) as report:
        report.setting("tiny", CPU)
        report.table(("what", "s", "speed", "p50 / p95"), [("ours", "0.50", "2.00 x", "1 / 2")])
        report.bar("ours over theirs", 2.0, at_least=1.5)
        if fails:
            raise RuntimeError("the server ended")


def test_a_recorded_run_is_a_line_of_numbers_with_its_machine_and_commit(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, record=True)
    lines = (tmp_path / "speed.jsonl").read_text().splitlines()
    assert len(lines) == 2
    line = json.loads(lines[0])
    assert line["tables"] == [[{"what": "ours", "s": 0.5, "speed": 2.0, "p50 / p95": "1 / 2"}]]
    assert line["bars"] == {"ours over theirs": 2.0}
    assert line["arguments"] == {"picture": "heron.png", "rounds": 3}
    assert line["processor"]
    assert {"commit", "changed", "date", "torch", "cores", "threads", "load"} <= line.keys()


def test_nothing_is_recorded_unless_asked_for_or_when_the_run_fails(tmp_path: Path) -> None:
    run(tmp_path, record=False)
    with pytest.raises(RuntimeError, match="ended"):
        run(tmp_path, record=True, fails=True)
    assert list(tmp_path.iterdir()) == []


def test_a_bar_says_whether_it_is_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, record=False)
    report = Report("speed", argparse.Namespace(), tmp_path)
    report.setting("tiny", CPU)
    report.bar("memory, MiB", 33, at_most=32)
    said = capsys.readouterr().out
    assert "- ours over theirs: 2 (at least 1.5: yes)" in said
    assert "- memory, MiB: 33 (at most 32: NO)" in said


@pytest.mark.parametrize(
    ("flags", "widest"), [("fma avx2", " (AVX2)"), ("avx2 avx512f avx512_bf16 amx_tile", " (AMX)"), ("sse2", "")]
)
def test_a_processor_is_named_by_its_model_and_its_widest_instructions(flags: str, widest: str) -> None:
    text = f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n\nprocessor\t: 1\nmodel name\t: another\n"
    assert described(text) == f"AMD EPYC{widest}"
