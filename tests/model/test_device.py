import os
from pathlib import Path

import pytest
import torch

from model.device import CPU, DeviceMemoryError, available_bytes, fast_dtype, memory_errors, usable_cores

CUDA = torch.device("cuda")


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_bfloat16_instructions_uses_them(instruction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instruction: True})
    assert fast_dtype(CPU) is torch.bfloat16


@pytest.mark.parametrize("capabilities", [{"avx2": True, "avx512_bf16": False, "amx_bf16": False}, {}])
def test_any_other_cpu_computes_in_float32(capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fast_dtype(CPU) is torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype"), [((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16), ((7, 5), torch.float32)]
)
def test_a_gpu_uses_bfloat16_only_where_it_is_native(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert fast_dtype(CUDA) is dtype


def system(folder: Path, siblings: dict[int, str], quota: str | None = None) -> Path:
    """Create Linux's files about a machine's processors."""
    for cpu, text in siblings.items():
        place = folder / f"devices/system/cpu/cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(text)
    if quota is not None:
        (folder / "fs/cgroup").mkdir(parents=True)
        (folder / "fs/cgroup/cpu.max").write_text(quota)
    return folder


FOUR_THREADS = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}


@pytest.mark.parametrize(
    ("quota", "cores"),
    [(None, 2), ("max 100000", 2), ("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1), ("rubbish", 2)],
)
def test_threads_of_one_core_count_once_and_a_containers_quota_counts(
    quota: str | None, cores: int, tmp_path: Path
) -> None:
    assert usable_cores(FOUR_THREADS, system(tmp_path, FOUR_THREADS, quota)) == cores


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """A machine with 4 MiB of free memory, most of it copies of files."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\nBuffers: 5 kB\n")
    return path


V1, V2 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"), ("memory.max", "memory.current")


@pytest.mark.parametrize(
    ("names", "limit", "used", "parts", "free"),
    [
        (V2, "3000000", "1000000", "anon 5\ninactive_file 1000\n", 2_001_000),
        (V2, "3000000", "4000000", "anon 5\n", 0),
        (V2, "max", "1000000", "inactive_file 1000\n", 4 * 2**20),
        (V2, "300000000", "0", "", 4 * 2**20),
        (V1, "3000000", "1000000", "inactive_file 7\ntotal_inactive_file 1000\n", 2_001_000),
        (V1, "9223372036854771712", "1000000", "", 4 * 2**20),
    ],
)
def test_the_free_memory_of_a_container_is_at_most_what_its_limit_leaves(
    names: tuple[str, str], limit: str, used: str, parts: str, free: int, meminfo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fs/cgroup"
    (folder / "memory").mkdir(parents=True)
    for name, text in zip((*names, str(Path(names[0]).with_name("memory.stat"))), (limit, used, parts), strict=True):
        (folder / name).write_text(text)
    assert available_bytes(meminfo, tmp_path) == free


def test_copies_of_files_in_memory_count_as_free(meminfo: Path, tmp_path: Path) -> None:
    assert available_bytes(meminfo, tmp_path) == 4 * 2**20


def test_systems_that_do_not_say_so_are_asked_for_free_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__)
    (tmp_path / "meminfo").write_text("no such line")
    for name in ("meminfo", "absent"):
        assert available_bytes(tmp_path / name, tmp_path) == 40_960


def test_a_machine_that_tells_nothing_has_a_core_for_each_cpu(tmp_path: Path) -> None:
    assert usable_cores([0, 1, 5], tmp_path) == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built."),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
        RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[:40],
)
def test_every_want_of_memory_is_one_error(error: Exception) -> None:
    with pytest.raises(DeviceMemoryError), memory_errors():
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("wrong shape")


@pytest.mark.parametrize(
    "text", ["CUDA error: an illegal memory access was encountered", "CUDNN_STATUS_EXECUTION_FAILED"]
)
def test_a_device_that_fails_is_not_said_to_lack_memory(text: str) -> None:
    with pytest.raises(torch.AcceleratorError), memory_errors():
        raise torch.AcceleratorError(text)
