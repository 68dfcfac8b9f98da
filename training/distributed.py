"""One run over several processes: each takes its share of every batch, and all make the same update.

Start them with `torchrun --nproc-per-node N -m training ...`. Without it these functions change nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model import gpu
from model.device import best_device, choose_device
from training.errors import Mistake

Value = TypeVar("Value")


class ProcessesDisagreeError(Mistake):
    """The processes of one run would not make the same update; the text says what differs."""


LONGEST_WAIT = timedelta(days=1)
"""Timeout of a wait for work of process 0 alone, such as measurements, which take long for large sets."""

LONGEST_STEP = timedelta(minutes=30)
"""Timeout of a wait within a step, so that the run ends if a machine disappears."""

_steps: dist.ProcessGroup | None = None
"""A group of all processes with the timeout of a step; None outside `joined`."""


def processes() -> int:
    """Return the number of processes that share the run, the world size."""
    return dist.get_world_size() if dist.is_initialized() else 1


def this_process() -> int:
    """Return the number of this process, its rank, from 0; process 0 validates, saves and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def joined() -> Iterator[torch.device]:
    """Join the processes that torchrun started; yields this one's device: the GPU of its number, if there are GPUs.

    Raises:
        DeviceError: this GPU cannot be used.
    """
    if "LOCAL_RANK" not in os.environ:
        yield best_device()
        return
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}" if gpu.present()[0] else "auto")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    global _steps
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    _steps = dist.new_group(timeout=LONGEST_STEP)  # type: ignore[assignment]  # every process belongs to it
    try:
        yield device
    finally:
        _steps = None
        dist.destroy_process_group()


def from_process_0(make: Callable[[], Value]) -> Value:
    """Make a value in process 0 and send it to every other; an error there is raised in all of them.

    Value and error are pickled on their way.
    """
    if processes() == 1:
        return make()
    made: list[Any] = [None, None]
    if this_process() == 0:
        try:
            made = [make(), None]
        except Exception as error:
            made = [None, error]
    dist.broadcast_object_list(made, src=0)
    value, problem = made
    if problem is not None:
        raise problem
    return value  # type: ignore[no-any-return]  # it is what `make` returned in process 0


def refuse_disagreement(**values: object) -> None:
    """Check that every process has the same values.

    Raises:
        ProcessesDisagreeError: one has another; all processes raise it.
    """
    if processes() == 1:
        return
    gathered: list[Any] = [None] * processes()
    dist.all_gather_object(gathered, values)
    for name, value in gathered[0].items():
        for process, others in enumerate(gathered):
            if others[name] != value:
                raise ProcessesDisagreeError(
                    f"process {process} has other {name.replace('_', ' ')} than process 0: {others[name]} and {value}; "
                    "give every machine the same command, code and pictures"
                )


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of every process's value, with a gradient to each of them."""
    if processes() == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total / processes()


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of the gradients of all of them."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total, group=_steps)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total, group=_steps)
        return total


def average_gradients(net: nn.Module) -> None:
    """Replace every gradient by its mean over the processes, in one exchange."""
    if processes() == 1:
        return
    gradients = [weight.grad for weight in net.parameters() if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=_steps)
    flat /= processes()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view(gradient.shape))


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes, without running statistics.

    A discriminator is only used on the batch at hand, so it needs no running average. torch's SyncBatchNorm works on
    GPUs only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        if processes() == 1:
            return super().forward(features)
        values = features.float()
        mean = mean_over_processes(values.mean(dim=(0, 2, 3), keepdim=True))
        variance = mean_over_processes((values - mean).square().mean(dim=(0, 2, 3), keepdim=True))
        scale = self.weight[:, None, None] * torch.rsqrt(variance + self.eps)
        return ((values - mean) * scale + self.bias[:, None, None]).to(features.dtype)
