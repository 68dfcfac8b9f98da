"""GPUs: which of them can be used, and whether one still works."""

import re
import warnings
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional

from model.errors import one_line

ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
"""An entry of `torch.cuda.get_arch_list`: machine code or PTX, and the compute capability that it was compiled for."""

DRIVER_FILES = tuple(map(Path, ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")))
"""Files of a driver: one of them exists if it is loaded; the last one in WSL."""

Capability = tuple[int, int]


class DeviceError(Exception):
    """A GPU was asked for and cannot be used; the text says why."""


class DeviceLostError(Exception):
    """The GPU has failed, and no later call of this process can succeed on it."""


def present() -> tuple[int, str]:
    """Return how many GPUs the driver offers, and if it offers none, why."""
    if torch.version.cuda is None:
        return 0, "this build of PyTorch is for CPUs"
    with warnings.catch_warnings(record=True) as said:  # PyTorch warns about a driver that is too old
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        return count, ""
    try:
        torch.cuda.init()
    except Exception as error:
        return 0, one_line(error)
    return 0, "; ".join(" ".join(str(warning.message).split()) for warning in said) or "the driver offers no GPU"


def driver_present() -> bool:
    """Return True if an NVIDIA driver is loaded: then a missing GPU is an error."""
    return any(path.exists() for path in DRIVER_FILES)


@cache
def why_unusable(device: torch.device) -> str | None:
    """Return why a GPU cannot be used, or None if its results are right; tested once for each GPU."""
    name = str(device)
    try:
        capability = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)} (sm_{capability[0]}{capability[1]})"
        built_for = torch.cuda.get_arch_list()
        if not any(runs_on(architecture, capability) for architecture in built_for):
            return f"{name}: this build of PyTorch has code for {', '.join(built_for)} only"
        return None if _computes_rightly(device) else f"{name} computes wrongly"
    except Exception as error:  # the driver raises all kinds of errors
        return f"{name}: {one_line(error)}"


def runs_on(architecture: str, capability: Capability) -> bool:
    """Check if code compiled for an architecture runs on a GPU of a compute capability.

    Machine code runs on later minor versions of its own major version, PTX on everything later. The suffix `a` binds
    either to one version, `f` PTX to its major version.
    """
    match = ARCHITECTURE.fullmatch(architecture)
    if match is None:
        return False
    built_for, suffix = (int(match[2]), int(match[3])), match[4]
    if suffix == "a":
        return capability == built_for
    later = capability >= built_for
    return later if match[1] == "compute" and not suffix else later and capability[0] == built_for[0]


def check_alive(device: torch.device) -> None:
    """Check, after an error, that a device still computes; a CPU always does.

    After a fault of the hardware or an illegal access every later CUDA call of the process fails, whatever it is.

    Raises:
        DeviceLostError: the device does not compute.
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
        alive = bool((torch.ones(8, device=device) + 1).sum().item() == 16)
    except Exception as error:
        if "out of memory" in str(error):  # which says nothing about later calls
            return
        raise DeviceLostError(f"{device} is lost: {one_line(error)}") from error
    if not alive:
        raise DeviceLostError(f"{device} is lost: it computes wrongly")


@torch.inference_mode()
def _computes_rightly(device: torch.device) -> bool:
    """Compare a small convolution of integers, which every number format holds exactly, with the CPU's."""
    pixels = (torch.arange(4 * 8 * 16 * 16) % 3).view(4, 8, 16, 16).float()
    weight = (torch.arange(8 * 8 * 9) % 3 - 1).view(8, 8, 3, 3).float()
    expected = functional.conv2d(pixels, weight)
    for dtype in (torch.float32, torch.float16):
        made = functional.conv2d(pixels.to(device, dtype), weight.to(device, dtype))
        if not torch.equal(made.float().cpu(), expected):
            return False
    return True
