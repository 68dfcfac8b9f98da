"""Pixels to a device and back; a GPU copies its results beside its computing.

A copy is fast and leaves the device free only if the host's memory is pinned. PyTorch keeps pinned memory that was
freed and gives it out again when its copy is over, so each result has memory of its own and nothing is copied twice.
"""

from collections.abc import Callable
from typing import Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[numpy.uint8 | numpy.uint16]
"""RGB (N, H, W, 3) of 8 or 16 bits: the planes of one picture, e.g. its colour and its alpha."""

Download = Callable[[], Pixels]
"""Waits for a copy to the host; returns what it brought."""


class Transfer(Protocol):
    """Moves pixels of any shape between host and device."""

    ahead: int
    """Results that may be on their way while the device computes the next one."""

    def upload(self, pixels: Pixels) -> Tensor:
        """The same levels on the device; the pixels may be overwritten as soon as this returns."""

    def download(self, made: Tensor) -> Download:
        """Start a copy of a tensor of levels that the device has been told to compute and nobody will write to."""


class NoTransfer:
    """For a CPU: the host's memory is the device's."""

    ahead = 0

    def upload(self, pixels: Pixels) -> Tensor:
        """See `Transfer`."""
        return torch.tensor(pixels)

    def download(self, made: Tensor) -> Download:
        """See `Transfer`."""
        pixels: Pixels = made.numpy()
        return lambda: pixels


class CudaTransfer:
    """Through pinned memory; results leave on a stream of their own, beside the device's current stream."""

    ahead = 1

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._leaving = torch.cuda.Stream(device)

    def upload(self, pixels: Pixels) -> Tensor:
        """See `Transfer`. Uploads are a sixteenth of the results at x4: they may wait for the device's turn."""
        return torch.tensor(pixels).pin_memory().to(self._device, non_blocking=True)

    def download(self, made: Tensor) -> Download:
        """See `Transfer`."""
        there = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
        self._leaving.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._leaving):
            there.copy_(made, non_blocking=True)
            over = self._leaving.record_event()
        made.record_stream(self._leaving)  # or its memory may go to the next band too early

        def wait() -> Pixels:
            over.synchronize()
            pixels: Pixels = there.numpy()
            return pixels

        return wait


def transfer_for(device: torch.device) -> Transfer:
    """The way to a device."""
    return CudaTransfer(device) if device.type == "cuda" else NoTransfer()
