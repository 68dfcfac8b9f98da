"""Choose the device and the number format for networks, and handle their memory."""

import ctypes
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch

from model import gpu
from model.machine import usable_cores, usable_cpus
from model.memory import says_out_of_memory

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats that a network can be stored and run in."""

BAND_PX = {"cpu": 2**15, "cuda": 2**20}
"""Best number of LR px in a band: on a CPU the number that stays in its cache; not yet measured on a GPU."""

TURING, AMPERE = (7, 5), (8, 0)
"""Compute capabilities of the first GPUs with useful float16, and with bfloat16."""

DEVICE_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")

JEMALLOC_ALL_ARENAS = 4096
"""jemalloc's number for all of its arenas (MALLCTL_ARENAS_ALL)."""

CPU = torch.device("cpu")

log = logging.getLogger(__name__)


class DeviceMemoryError(Exception):
    """The device does not have enough memory for a call."""


@cache
def best_device() -> torch.device:
    """Return the first GPU that can be used, else the CPU."""
    return choose_device("auto")


def choose_device(wanted: str) -> torch.device:
    """Return the device that a setting names, or the best one.

    Args:
        wanted: `cpu`; `cuda:N`, that GPU; `cuda`, the first usable GPU; or `auto`, the first usable GPU, else the CPU,
            with the reason in the log.

    Raises:
        DeviceError: the GPU cannot be used, for the reason in the text; or no device has this name.
    """
    if wanted == "cpu":
        return CPU
    if not DEVICE_NAME.fullmatch(wanted):
        raise gpu.DeviceError(f"{wanted} is no device: use cpu, cuda, cuda:N or auto")
    count, reason = gpu.present()
    number = int(wanted.removeprefix("cuda:")) if ":" in wanted else None
    if number is not None and number >= count > 0:
        reason = f"the GPUs have the numbers 0 to {count - 1}"
    unusable: list[str] = []
    for device in (torch.device("cuda", index) for index in range(count) if number in (None, index)):
        if (why := gpu.why_unusable(device)) is None:
            return device
        unusable.append(why)
    reason = "; ".join(unusable) or reason
    if wanted != "auto":
        raise gpu.DeviceError(f"{wanted} cannot be used: {reason}")
    level = logging.WARNING if unusable or gpu.driver_present() else logging.INFO
    log.log(level, "using the CPU and no GPU: %s", reason)
    return CPU


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it natively, else float32.

    bfloat16 keeps float32's range, so no activation of a trained network can overflow.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= AMPERE else torch.float32
    instructions = torch.cpu.get_capabilities()
    native = instructions.get("avx512_bf16") or instructions.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def exact_float32() -> None:
    """Make cuDNN multiply in float32; by default it uses TF32, with 10 bits, on Ampere and later."""
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def current(device: torch.device) -> Iterator[None]:
    """Make a GPU the current one: CUDA's streams and graphs, and Triton's kernels, are those of the current GPU."""
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn all errors of devices that mean out of memory into one.

    Raises:
        DeviceMemoryError: the device does not have enough memory.
    """
    try:
        yield
    except Exception as error:
        if says_out_of_memory(error):
            raise DeviceMemoryError(_first_line(error)) from error
        raise


def release_memory(device: torch.device) -> None:
    """Free the reserves of the allocators, for smaller allocations and other processes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    process = ctypes.CDLL(None)
    if hasattr(process, "mallctl"):  # jemalloc was preloaded
        process.mallctl(f"arena.{JEMALLOC_ALL_ARENAS}.purge".encode(), None, None, None, ctypes.c_size_t(0))
    elif hasattr(process, "malloc_trim"):
        process.malloc_trim(ctypes.c_size_t(0))


def memory_bytes(device: torch.device) -> dict[str, int]:
    """Memory of a GPU by kind: `allocated` by tensors, `reserved` for them, `free` and `total`; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return {"allocated": allocated, "reserved": reserved, "free": free, "total": total}


def use_physical_cores(threads: int | None = None) -> int:
    """Set the number of torch's threads to that of the cores for this process, or another one, and return it.

    torch itself considers neither a container's quota nor sibling threads, and with too many threads every operation
    waits for the slowest.
    """
    cores = threads or usable_cores(usable_cpus())
    torch.set_num_threads(cores)
    return cores


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
