"""Measure the time of a call on a GPU, without the time of the host."""

from collections.abc import Callable

import torch

from model.graphs import captured

ROUNDS = 8
"""Rounds; the fastest counts, so that other work on the machine matters less."""

CALLS = 10
"""Calls in a CUDA graph, whose single launch then takes little of the time."""


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Time a call on a GPU in the fastest of some rounds, by its own clock, from a captured graph if possible."""
    call()  # the first call compiles, or chooses an algorithm
    taken_s: list[float] = []
    with torch.cuda.device(device):
        replay = _round(call)
        for _ in range(ROUNDS):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            replay()
            ended.record()
            ended.synchronize()
            taken_s.append(began.elapsed_time(ended) / 1e3 / CALLS)
    return min(taken_s)


def _round(call: Callable[[], object]) -> Callable[[], object]:
    """Capture the calls of a round in a graph; returns a function that makes them, one by one if capturing fails."""

    def round_of_calls() -> None:
        for _ in range(CALLS):
            call()

    try:
        return captured(round_of_calls)[0]
    except RuntimeError:  # CUDA's errors are subclasses
        return round_of_calls
