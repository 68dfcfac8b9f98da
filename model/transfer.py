"""Copy pixels to a device and back; a GPU copies results while it computes.

Copies are fast and asynchronous only if the host's memory is pinned. PyTorch reuses freed pinned memory once its copy
is complete, so each result has its own memory, and nothing is copied twice.
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
"""RGB (N, H, W, 3) of 8 or 16 bits: the planes of one picture, such as its colour and its alpha."""

Download = Callable[[], Pixels]
"""Waits for a copy to the host and returns the pixels."""


class Transfer(Protocol):
    """Moves pixels of any shape between host and device."""

    ahead: int
    """Number of results that may be copied while the device computes the next one."""

    def upload(self, pixels: Pixels) -> Tensor:
        """Copy levels to the device; the pixels may be overwritten as soon as this returns."""

    def download(self, made: Tensor) -> Download:
        """Start copying a tensor of levels, whose computation is queued, and which is not changed afterwards."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Pixels on their way to the host, and the least and the largest value before rounding, 1 being white."""

    download: Download
    extremes: Tensor | None
    """float (2,) on the device; None if there are no pixels."""


class NoTransfer:
    """Transfer for a CPU, which uses the memory of the host."""

    ahead = 0

    def upload(self, pixels: Pixels) -> Tensor:
        """See `Transfer`."""
        return torch.tensor(pixels)

    def download(self, made: Tensor) -> Download:
        """See `Transfer`."""
        pixels: Pixels = made.numpy()
        return lambda: pixels


class CudaTransfer:
    """Transfer through pinned memory; results are copied on a separate stream.

    Args:
        pinned: False to use ordinary memory, with copies that wait for the device; also used if pinning fails.
    """

    ahead = 1

    def __init__(self, device: torch.device, *, pinned: bool = True) -> None:
        self._device = device
        self._pinned = pinned
        self._leaving = torch.cuda.Stream(device)

    def upload(self, pixels: Pixels) -> Tensor:
        """See `Transfer`. Uploads use the current stream: at x4 they have a sixteenth of the size of results."""
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
        made.record_stream(self._leaving)  # otherwise its memory may be reused for the next band too early

        def wait() -> Pixels:
            over.synchronize()
            pixels: Pixels = there.numpy()
            return pixels

        return wait

    def _pinned_or_not(self, pinned: Callable[[], Tensor], ordinary: Callable[[], Tensor]) -> Tensor:
        """Allocate pinned memory, or ordinary memory if that fails: it is scarce in containers and under WSL2."""
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
    """Return the transfer for a device; see `CudaTransfer`."""
    return CudaTransfer(device, pinned=pinned) if device.type == "cuda" else NoTransfer()
