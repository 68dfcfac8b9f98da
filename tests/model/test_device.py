import pytest
import torch

from model.device import CPU, DeviceMemoryError, fast_dtype, memory_errors

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
