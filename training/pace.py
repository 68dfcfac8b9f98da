"""The pace of a run, known at its start: a step is rehearsed before the first one is taken."""

import copy
import resource
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.steps import Steps

REHEARSALS = 2
"""Steps that are timed, after one that is not, in which the device and torch's compiler warm up."""

LONG_S = 60.0
"""Shorter runs do not print their pace."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Time, work and memory of a step, without the cutting of crops and the measurements."""

    step_s: float
    flop: float
    """Multiplications and additions of a step, over all processes."""
    memory_bytes: int
    """Peak memory of this process: on the GPU, else in total."""

    def line(self, steps: int, now: datetime) -> str | None:
        """Describe when `steps` more will be done; None if that is soon."""
        left_s = steps * self.step_s
        if left_s < LONG_S:
            return None
        end = now + timedelta(seconds=left_s)
        day = "" if end.date() == now.date() else f"{end:%Y-%m-%d} "
        return (
            f"{steps:,} steps at {1 / self.step_s:.3g} steps/s ({self.flop / self.step_s / 1e9:,.0f} GFLOP/s, "
            f"{self.memory_bytes / 1e9:.1f} GB): {_duration(left_s)}, until {day}{end:%H:%M}, "
            "and the time to cut crops and to measure"
        )


def measuring_line(seconds: float, left: int) -> str | None:
    """Describe how long the measurements that are left will take, from the time of one; None if that is short."""
    if seconds * left < LONG_S:
        return None
    return f"a measurement takes {seconds:.0f} s, and {left} more are to come: {_duration(seconds * left)}"


def rehearse(steps: Steps, low_res: Tensor, high_res: Tensor) -> Pace:
    """Time the work of a step; every process of a run calls it."""
    with steps.undone():
        steps.rehearse(low_res, high_res)
        started = time.perf_counter()
        for _ in range(REHEARSALS):
            steps.rehearse(low_res, high_res)
        step_s = (time.perf_counter() - started) / REHEARSALS
    config = steps.config
    low_res_px = config.batch * config.crop_px**2
    passes = 4 if config.checkpointing else 3  # forward, and backward twice as much; the trunk once more
    macs = passes * config.generator.macs_per_low_res_px * low_res_px
    shared = config.batch / len(low_res)
    return Pace(
        step_s=step_s,
        flop=2 * (macs + shared * _other_macs(steps, low_res, high_res)),
        memory_bytes=_most_memory(steps.device),
    )


def _other_macs(steps: Steps, low_res: Tensor, high_res: Tensor) -> float:
    """Count the multiply-accumulate operations of the networks of the losses, whichever code runs them."""
    macs, losses = 0, steps.config.losses
    if vgg := steps.objective.vgg:  # two passes forward, and a gradient to one of the pictures
        macs += 3 * _macs(vgg, high_res)
    if steps.discriminator:  # two passes forward, one back to the upscaled pictures, four to the weights
        macs += 7 * _macs(steps.discriminator.net, high_res)
    if teacher := steps.objective.teacher:
        macs += len(teacher.turns) * _macs(teacher.net, low_res)
    if losses.artefacts:
        macs += _macs(steps.average, low_res)
    return macs


def _macs(net: nn.Module, pictures: Tensor) -> int:
    """Count the multiply-accumulate operations of a forward pass, without computing it."""
    shapes = copy.deepcopy(net).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(torch.empty(pictures.shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def _most_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
