"""The machine of a measurement: its processor, the commit that was checked out, the memory of processes."""

import os
import platform
import subprocess
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
ROOT = Path(__file__).parents[2]

EXTENSIONS = {"amx_tile": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX512", "avx2": "AVX2", "asimd": "NEON"}
"""Flags of Linux, the most telling first, and the usual names; one is enough to tell processors apart."""


def processor(device: torch.device) -> str:
    """Return the name of the device, for a CPU with its widest instructions: `AMD EPYC (AVX2)`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return described(CPUINFO.read_text(encoding="utf-8")) if CPUINFO.exists() else platform.machine()


def described(cpuinfo: str) -> str:
    """Return the model and the widest instructions from the text of `/proc/cpuinfo`."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    widest = next((name for flag, name in EXTENSIONS.items() if flag in flags), None)
    model = fields.get("model name", platform.machine())
    return f"{model} ({widest})" if widest else model


def commit() -> tuple[str | None, bool]:
    """Return the commit of the checkout and whether files differ from it; no commit where git or `.git` is missing."""
    try:
        return _git("rev-parse", "HEAD").strip(), bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, False


def threads_and_cores() -> tuple[int, int]:
    """Return PyTorch's threads and the cores that this process may use."""
    return torch.get_num_threads(), len(os.sched_getaffinity(0))


def process_status(process: int, field: str) -> int:
    """Return a number from Linux's status of a process, memory in bytes: `VmRSS`, its peak `VmHWM`, `Threads`."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    number, *unit = next(line for line in lines if line.startswith(f"{field}:")).split()[1:]
    return int(number) * (1024 if unit else 1)


def reset_peak_memory(process: int) -> None:
    """Let the peak of a process's memory count from here."""
    Path(f"/proc/{process}/clear_refs").write_text("5", encoding="ascii")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
