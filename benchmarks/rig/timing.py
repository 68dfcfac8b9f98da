"""Timing of cases in turns, and the fidelity of their pictures."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy

from model.psnr import psnr_db
from model.transfer import Pixels

PAUSE_S = 0.05
"""Pause before each case, for the threads of the one before to stop spinning."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Difference of a picture from that of the float32 network, in 8-bit levels."""

    psnr_db: float
    worst_levels: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table."""

    run: Callable[[], object]
    flop: float = 0.0
    fidelity: Fidelity | None = None
    """None if the case is not a network."""


def medians_s(
    cases: dict[str, Case], rounds: int, *, warm_ups: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Run all cases in turns, so that a slow minute hits them alike; some more rounds, the first ones, warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(warm_ups + rounds):
        for name, case in cases.items():
            time.sleep(PAUSE_S)
            began_s = clock()
            case.run()
            seconds[name].append(clock() - began_s)
    return {name: statistics.median(times[warm_ups:]) for name, times in seconds.items()}


def fidelity_of(upscaled: Pixels, reference: Pixels) -> Fidelity:
    """Compare two pictures of the same shape."""
    worst = numpy.abs(upscaled.astype(int) - reference).max()
    return Fidelity(psnr_db=psnr_db(upscaled, reference), worst_levels=int(worst))
