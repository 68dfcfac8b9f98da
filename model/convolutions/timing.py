"""Time that a call takes on a device, without the host's share."""

import time
from collections.abc import Callable

import torch

ROUNDS = 8
"""The best round counts: other work on the machine must not decide."""

CALLS = 10
"""Calls of a graph: its one launch takes little of their time."""


def seconds(call: Callable[[], object], device: torch.device, *, rounds: int = ROUNDS) -> float:
    """Time a call, in the best of some rounds; on a GPU by its own clock, from a captured graph where that works."""
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
        replay, taken = _captured(call), []
        for _ in range(rounds):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            replay()
            ended.record()
            ended.synchronize()
            taken.append(began.elapsed_time(ended) / 1e3 / CALLS)
    return taken


def _captured(call: Callable[[], object]) -> Callable[[], object]:
    """The calls of a round as a graph; one after the other where they cannot be captured."""

    def round_of_calls() -> None:
        for _ in range(CALLS):
            call()

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            round_of_calls()
    except RuntimeError:  # CUDA's errors are subclasses
        return round_of_calls
    return graph.replay
