"""The pace of a run, known at its start: a step is rehearsed before the first one is taken."""

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import torch
from torch import Tensor, nn

from training.steps import Steps

REHEARSALS = 2
"""Steps that are timed, after one that is not, in which the device and torch's compiler warm up."""

LONG_S = 60.0
"""A run that takes no longer says nothing about its pace."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Time, work and memory of a step, without the update, the cutting of crops and the measurements."""

    step_s: float
    flop: float
    """Multiplications and additions of a step, over all processes."""
    memory_bytes: int
    """The most that this process has held: on the GPU, else all of it."""

    def line(self, steps: int, now: datetime) -> str | None:
        """Say when `steps` more will be done; None where that is soon."""
        left_s = steps * self.step_s
        if left_s < LONG_S:
            return None
        end = now + timedelta(seconds=left_s)
        day = "" if end.date() == now.date() else f"{end:%Y-%m-%d} "
        return (
            f"{steps:,} steps at {1 / self.step_s:.3g} steps/s ({self.flop / self.step_s / 1e9:,.0f} GFLOP/s, "
            f"{self.memory_bytes / 1e9:.1f} GB): {_duration(left_s)}, until {day}{end:%H:%M}, and the time to measure"
        )


def rehearse(steps: Steps, low_res: Tensor, high_res: Tensor) -> Pace:
    """Time the work of a step; every process of a run calls it."""
    others = steps.judges()
    with _counted(others) as counted:
        steps.rehearse(low_res, high_res)
    started = time.perf_counter()
    for _ in range(REHEARSALS):
        steps.rehearse(low_res, high_res)
    config = steps.config
    low_res_px = config.batch * config.crop_px**2
    passes = 4 if config.checkpointing else 3  # forward, and backward twice as much; the trunk once more
    flop = passes * 2 * config.generator.macs_per_low_res_px * low_res_px
    shared = config.batch / len(low_res)
    return Pace(
        step_s=(time.perf_counter() - started) / REHEARSALS,
        flop=flop + shared * sum(2 * macs * _passes(net) for net, macs in zip(others, counted, strict=True)),
        memory_bytes=_most_memory(steps.device),
    )


def _passes(net: nn.Module) -> float:
    """Work of a step for each forward pass: VGG19 passes gradients of one of two pictures on, without its own."""
    if any(weight.requires_grad for weight in net.parameters()):
        return 9 / 4  # four passes forward, three backward that end at the pictures or weights, two that need both
    return 3 / 2


@contextmanager
def _counted(nets: Sequence[nn.Module]) -> Iterator[list[int]]:
    """Count the multiply-accumulate operations of all forward passes of some networks."""
    macs = [0] * len(nets)
    hooks = []

    def count(number: int, layer: nn.Conv2d | nn.Linear, made: Tensor) -> None:
        macs[number] += made.numel() * layer.weight[0].numel()

    for number, net in enumerate(nets):
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        hooks += [layer.register_forward_hook(lambda one, _, made, n=number: count(n, one, made)) for layer in layers]
    try:
        yield macs
    finally:
        for hook in hooks:
            hook.remove()


def _most_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
