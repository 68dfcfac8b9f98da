"""The stage that runs the tests of a GPU: a process for each file, since one illegal access fails all later tests."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.acceptance.record import Record

GPU_TESTS = ("tests/model/test_graphs.py", "tests/model/test_gpu.py", "tests/model/convolutions/test_fused.py")
"""All files with tests that need a GPU: to look for these in the others takes minutes, and packages."""

HANG_S = 100
"""Time of one test after which the stacks of its threads are written."""

MAX_LISTED = 10
"""Maximum number of failed tests of a file that the report names; pytest.txt has all."""


def run_tests(record: Record, out: Path, *, only_collect: bool = False) -> None:
    """Run the tests that need a GPU: a line for each file and each failed test."""
    options = ["-m", "gpu", "-v", "-ra", "--tb=short", "--durations=5", "-p", "no:cacheprovider"]
    options += ["-o", f"faulthandler_timeout={HANG_S}", *(["--collect-only"] if only_collect else [])]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "300"}
    said = out / "pytest.txt"
    said.unlink(missing_ok=True)
    for path in GPU_TESTS:
        began_s, before = time.perf_counter(), len(_text(said))
        passed = False
        try:
            with said.open("a", encoding="utf-8") as file:
                command = [sys.executable, "-m", "pytest", path, *options]
                run = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False)
            passed = run.returncode == 0
        finally:
            text = _text(said)[before:]
            last = (text.strip().splitlines() or ["no output"])[-1].strip("= ")
            record.check(path, passed, f"{last[:300]}; see {said.name}", s=time.perf_counter() - began_s)
            for failure in re.findall(r"(?m)^(?:FAILED|ERROR) .*", text)[:MAX_LISTED]:
                record.check("test", False, failure[:300])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
