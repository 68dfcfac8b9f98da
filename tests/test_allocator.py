"""The allocator's settings keep freed memory for the next tensors, and let no process grow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SETTINGS = re.findall(r"MALLOC_CONF=(\S+)", MAKEFILE)
JEMALLOC = next(iter(sorted(Path("/usr/lib").glob("*/libjemalloc.so.2"))), None)

LARGE_AND_SMALL = """
import torch
from pathlib import Path

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

for _ in range(30):
    large = [torch.ones(2**22) for _ in range(4)]
    small = [torch.ones(2**14) for _ in range(400)]
    print(resident_bytes())
    del large, small
"""
"""Rounds of 4 tensors of 16 MiB and 400 of 64 KiB; the memory of a round, freed, joins to a range of 89 MiB."""


def growth(settings: str) -> int:
    """Return the bytes by which a process has grown between its sixth round and its last."""
    environment = {**os.environ, "LD_PRELOAD": str(JEMALLOC), "MALLOC_CONF": settings, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LARGE_AND_SMALL], env=environment, capture_output=True, check=True
    )
    sizes = [int(line) for line in made.stdout.split()]
    return sizes[-1] - sizes[5]


def test_all_that_serve_set_the_allocator_alike() -> None:
    assert len(SETTINGS) == 1
    for file in ("Dockerfile", "docs/deploy.md"):
        assert re.findall(r"MALLOC_CONF=(\S+)", (ROOT / file).read_text(encoding="utf-8")) == SETTINGS


@pytest.mark.skipif(JEMALLOC is None, reason="jemalloc is not installed")
def test_a_process_that_frees_what_it_took_does_not_grow() -> None:
    assert growth(SETTINGS[0]) < 30 * 2**20
    ratio_of_64 = SETTINGS[0].replace(",lg_extent_max_active_fit:30", "")
    assert growth(ratio_of_64) > 300 * 2**20  # so this test can fail
