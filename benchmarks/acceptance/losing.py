"""python -m benchmarks.acceptance.losing: the service, whose device fails at the first request after the warm-up."""

import sys
from collections.abc import Sequence

import torch

from app.__main__ import end, main
from app.networks import DeviceEngine
from app.pictures.picture import Pixels
from app.service import UpscaleInput
from model.reliable import ReliableUpscaler

upscale = DeviceEngine.batch


def lose(engine: DeviceEngine, inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
    """Read past the end of an array, after which the context of that GPU is lost; a CPU's thread dies instead."""
    upscaler = inputs[0].network.upscaler
    assert isinstance(upscaler, ReliableUpscaler)
    device = upscaler.device
    if device.type == "cpu":
        sys.exit("the rehearsal ends the device's thread")
    torch.arange(4, device=device)[torch.tensor([10**6], device=device)]
    return upscale(engine, inputs)


if __name__ == "__main__":
    DeviceEngine.batch = lose  # type: ignore[method-assign, assignment]  # a fault that is injected
    end(main([]))
