"""python -m benchmarks.acceptance.losing: the service, whose device fails at the first request after the warm-up."""

import sys
from collections.abc import Sequence

import torch

from app.__main__ import end, main
from app.networks import DeviceEngine
from app.pictures.picture import Pixels
from app.service import UpscaleInput

upscale = DeviceEngine.batch


def lose(engine: DeviceEngine, inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
    """Read past the end of an array, after which CUDA's context is lost; a CPU's thread dies instead."""
    if not torch.cuda.is_initialized():
        sys.exit("the rehearsal ends the device's thread")
    torch.arange(4, device="cuda")[torch.tensor([10**6], device="cuda")]
    return upscale(engine, inputs)


if __name__ == "__main__":
    DeviceEngine.batch = lose  # type: ignore[method-assign, assignment]  # a fault that is injected
    end(main([]))
