"""The acceptance run on a GPU, rehearsed on the CPU: right numbers pass, wrong ones fail, and the report has both."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as runtimes
from benchmarks.acceptance import __main__ as acceptance
from benchmarks.acceptance import device_tests
from benchmarks.acceptance.limits import limited
from benchmarks.acceptance.record import Record, logged
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


def test_a_pixel_takes_the_operations_that_the_other_benchmark_counts(record: Record, runtime: Runtime) -> None:
    record.run("network", runtime.network)
    rate, operations = (record.figure("network", "float32 16 x 16", unit) for unit in ("LR_Mpx_per_s", "TFLOPs"))
    assert rate is not None
    assert operations is not None
    (case,) = runtimes._networks(random_net(), CPU, smooth_noise(16, 16), [runtimes.EAGER])[0].values()
    assert 1e6 * operations / rate == pytest.approx(case.flop / 16**2)


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


def test_a_report_that_is_cut_short_has_every_line_and_names_the_stages_without_an_end(tmp_path: Path) -> None:
    record = Record(report=tmp_path / "report.txt", planned=["first", "second", "third"])
    record.run("first", lambda: record.check("holds", True))
    said: list[str] = []

    def second() -> None:
        record.check("holds too", True)
        said.append((tmp_path / "report.txt").read_text())

    record.run("second", second)
    assert "PASS first: holds" in said[0]
    assert "PASS second: holds too" in said[0]
    assert "FAIL second: runs to its end (the process ended or hung in it)" in said[0]
    assert "FAIL third: runs to its end (it did not run: the process ended)" in said[0]
    assert "first: runs" not in said[0]
    record.run("third", lambda: None)
    assert (tmp_path / "report.txt").read_text().endswith("\n2 checks passed\n")


def test_a_stage_that_takes_too_long_fails_and_the_next_one_runs(record: Record, tmp_path: Path) -> None:
    def waits() -> None:
        for _ in range(1000):
            with suppress(Exception):  # as code that retries
                time.sleep(0.01)

    with (tmp_path / "log.txt").open("w") as trace:
        record.run("slow", limited(0.05, trace)(waits))
        record.run("next", limited(60, trace)(lambda: record.check("holds", True)))
    assert record.failed == ["slow: runs to its end"]
    assert [line.name for line in record.lines] == ["runs to its end", "holds"]


HANGS = """
import signal, sys, time
from pathlib import Path
from benchmarks.acceptance import limits
from benchmarks.acceptance.record import Record

def hangs():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # as in a call of the driver that does not return
    time.sleep(30)

limits.DRIVER_S = 0.1
record = Record(report=Path(sys.argv[1]) / "report.txt", planned=["hangs", "next"])
with open(sys.argv[1] + "/log.txt", "w") as trace:
    record.run("hangs", limits.limited(0.1, trace)(hangs))
"""


def test_a_stage_that_hangs_in_the_driver_ends_the_process_and_leaves_a_report(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", HANGS, tmp_path], check=False)
    assert run.returncode == 1
    assert (tmp_path / "report.txt").read_text().endswith("\n2 of 2 checks failed\n")
    assert "in hangs" in (tmp_path / "log.txt").read_text()


def test_what_the_network_logs_is_in_the_report_and_the_rest_in_a_file(record: Record, tmp_path: Path) -> None:
    ours, other = logging.getLogger("model.graphs"), logging.getLogger("httpx")
    with (tmp_path / "log.txt").open("w") as file, logged(record, file):
        ours.warning("cannot be captured: %s", "no\ndevice")
        ours.debug("a detail")
        other.warning("something else")
    ours.warning("too late")
    assert [str(line) for line in record.lines] == ["---- : log (WARNING: cannot be captured: no device)"]
    said = (tmp_path / "log.txt").read_text()
    assert "a detail" in said
    assert "something else" in said
    assert "too late" not in said


def test_a_lost_device_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def lost(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def stages(*_: object) -> dict[str, Callable[[], None]]:
        return {name: lost if name == "network" else partial(ran.append, name) for name in acceptance.STAGES}

    monkeypatch.setattr(acceptance, "_stages", stages)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    monkeypatch.setattr(sys, "argv", ["acceptance", "--cpu", "--out", str(tmp_path)])
    assert acceptance.main() == 1
    assert ran == [name for name in acceptance.STAGES if name != "network"]
    assert "\n1 of 1 checks failed\n" in (tmp_path / "report.txt").read_text()
    assert "illegal memory access" in (tmp_path / "log.txt").read_text()


def test_the_tests_that_need_a_gpu_are_in_the_files_that_the_acceptance_runs() -> None:
    root = Path(__file__).parents[2]
    marked = [
        path for path in (root / "tests").rglob("*.py") if "mark.gpu" in path.read_text() and path != Path(__file__)
    ]
    assert {path.relative_to(root).as_posix() for path in marked} == set(device_tests.GPU_TESTS)


def test_a_failed_test_is_named_in_the_report(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "test_device.py"
    path.write_text("from pytest import mark\n@mark.gpu\ndef test_sum():\n    assert 1 + 1 == 3\n")
    monkeypatch.setattr(device_tests, "GPU_TESTS", [str(path)])
    device_tests.run_tests(record, tmp_path)
    assert [line.passed for line in record.lines] == [False, False]
    assert "1 failed" in record.lines[0].text
    assert record.lines[1].text.endswith("::test_sum - assert (1 + 1) == 3")
    assert "test_sum" in (tmp_path / "pytest.txt").read_text()


def test_the_command_needs_no_package_of_the_service() -> None:
    code = "import sys, benchmarks.acceptance.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pydantic", "pyvips", "fastapi", "httpx", "httpx2", "uvicorn", "isal"}.isdisjoint(run.stdout.split())


def test_a_figure_can_be_read_again(record: Record) -> None:
    record.stage = "ceilings"
    record.check("float32", None, TFLOPs=3.5)
    assert record.figure("ceilings", "float32", "TFLOPs") == 3.5
    assert record.figure("ceilings", "float16", "TFLOPs") is None
