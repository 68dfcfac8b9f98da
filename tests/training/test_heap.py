import ctypes
import os
import subprocess
import sys

import pytest

from training.heap import keep_freed_memory

PAGE_FAULTS = """
import resource, sys
from training.heap import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(20):
    if turn == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 36_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Makes a string of 36 MB repeatedly, and counts the page faults of the last ten."""


def page_faults(way: str) -> int:
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "GLIBC_TUNABLES")}
    made = subprocess.run([sys.executable, "-c", PAGE_FAULTS, way], env=environment, capture_output=True, check=True)
    return int(made.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library cannot be told to keep memory")
def test_memory_of_a_large_tensor_serves_the_next_ones() -> None:
    assert page_faults("keep") < page_faults("leave") / 10


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
