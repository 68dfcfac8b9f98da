"""Pixels to a device and back; a GPU copies its results beside its computing.

A copy is fast and leaves the device free only if the host's memory is pinned. PyTorch keeps pinned memory that was
freed and gives it out again when its copy is over, so each result has memory of its own and nothing is copied twice.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import one_line
from model.memory import says_out_of_memory

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, kw_only=True)
class Result:
    """Pixels on their way to the host, and the least and the largest value before rounding, 1 being white."""

    download: Download
    extremes: Tensor | None
    """float (2,) on the device; None where there are no pixels."""


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
    """Through pinned memory; results leave on a stream of their own, beside the device's current stream.

    Args:
        pinned: False: copies wait for the device, through ordinary memory. So do those for which pinning fails.
    """

    ahead = 1

    def __init__(self, device: torch.device, *, pinned: bool = True) -> None:
        self._device = device
        self._pinned = pinned
        self._leaving = torch.cuda.Stream(device)

    def upload(self, pixels: Pixels) -> Tensor:
        """See `Transfer`. Uploads are a sixteenth of the results at x4: they may wait for the device's turn."""
        levels = torch.tensor(pixels)
        return self._pinned_or_not(levels.pin_memory, lambda: levels).to(self._device, non_blocking=True)

    def download(self, made: Tensor) -> Download:
        """See `Transfer`."""
        room = partial(torch.empty, made.shape, dtype=made.dtype)
        there = self._pinned_or_not(partial(room, pin_memory=True), room)
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

    def _pinned_or_not(self, pinned: Callable[[], Tensor], ordinary: Callable[[], Tensor]) -> Tensor:
        """Pinned memory is scarce in containers and under WSL2: without it a copy is slower, not wrong."""
        if self._pinned:
            try:
                return pinned()
            except RuntimeError as error:
                if not says_out_of_memory(error):
                    raise
                log.warning("pictures are copied through ordinary memory from now on: %s", one_line(error))
                self._pinned = False
        return ordinary()


def transfer_for(device: torch.device, *, pinned: bool = True) -> Transfer:
    """The way to a device; see `CudaTransfer`."""
    return CudaTransfer(device, pinned=pinned) if device.type == "cuda" else NoTransfer()
