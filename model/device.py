"""Which device runs the network, in which number format, and what is particular to each."""

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from model.memory import says_out_of_memory

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats that a network can be stored and run in."""

BAND_PX = {"cpu": 2**15, "cuda": 2**20}
"""LR px that a device best takes at a time: on a CPU what stays in its cache; on a GPU not measured yet."""

JEMALLOC_ALL_ARENAS = 4096
"""What jemalloc calls all of its arenas together (MALLCTL_ARENAS_ALL)."""

SYSTEM = Path("/sys")


class DeviceMemoryError(Exception):
    """The device has not enough memory for a call."""


def best_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32.

    bfloat16 keeps float32's range, so no activation of a trained network can overflow.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    instructions = torch.cpu.get_capabilities()
    native = instructions.get("avx512_bf16") or instructions.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def exact_float32() -> None:
    """Let cuDNN multiply float32 as float32; by default it takes TF32 on Ampere and later, which has 10 bits."""
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def memory_errors() -> Iterator[None]:
    """What the devices raise for want of memory becomes one error.

    Raises:
        DeviceMemoryError: the device has not enough memory.
    """
    try:
        yield
    except Exception as error:
        if says_out_of_memory(error):
            raise DeviceMemoryError(_first_line(error)) from error
        raise


def release_memory(device: torch.device) -> None:
    """Give back what the allocators hold in reserve, so that smaller pieces, or others, find room."""
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


def use_physical_cores() -> int:
    """Let torch run as many threads as there are cores for this process; returns how many.

    torch by itself counts neither a container's quota nor sibling threads, and with too many threads every operation
    waits for the slowest.
    """
    cores = usable_cores(os.sched_getaffinity(0), SYSTEM)
    torch.set_num_threads(cores)
    return cores


def usable_cores(cpus: Iterable[int], system: Path) -> int:
    """Physical cores behind some logical CPUs, or what a container's quota allows of them; at least 1.

    Args:
        system: where Linux's /sys is.
    """
    cores = len({_siblings(cpu, system) for cpu in cpus})
    try:
        quota, period = (system / "fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, cores if quota == "max" else min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or one of the old kind
        return max(1, cores)


def _siblings(cpu: int, system: Path) -> str:
    try:
        return (system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:  # a machine that does not tell: each counts as a core
        return str(cpu)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
