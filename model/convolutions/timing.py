"""Measure the time of a call on a device, without the time of the host."""

import time
from collections.abc import Callable

import torch

from model.graphs import captured

ROUNDS = 8
"""Rounds; the fastest counts, so that other work on the machine matters less."""

CALLS = 10
"""Calls in a CUDA graph, whose single launch then takes little of the time."""


def seconds(call: Callable[[], object], device: torch.device, *, rounds: int = ROUNDS) -> float:
    """Time a call in the fastest of some rounds; on a GPU by its own clock, from a captured graph if possible."""
    call()  # the first call compiles, or chooses an algorithm
    return min(_gpu_seconds(call, device, rounds) if device.type == "cuda" else _cpu_seconds(call, rounds))


def _cpu_seconds(call: Callable[[], object], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began_s)
    return taken


def _gpu_seconds(call: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    with torch.cuda.device(device):
        replay, taken = _round(call), []
        for _ in range(rounds):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            replay()
            ended.record()
            ended.synchronize()
            taken.append(began.elapsed_time(ended) / 1e3 / CALLS)
    return taken


def _round(call: Callable[[], object]) -> Callable[[], object]:
    """Capture the calls of a round in a graph; returns a function that makes them, one by one if capturing fails."""

    def round_of_calls() -> None:
        for _ in range(CALLS):
            call()

    try:
        return captured(round_of_calls)[0]
    except RuntimeError:  # CUDA's errors are subclasses
        return round_of_calls
