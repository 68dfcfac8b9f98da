import pytest
import torch

from model.device import best_device, fast_dtype

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.mark.parametrize(("present", "best"), [(True, CUDA), (False, CPU)])
def test_cuda_is_taken_where_it_is_present(present: bool, best: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert best_device() == best


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_bfloat16_instructions_uses_them(instruction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instruction: True})
    assert fast_dtype(CPU) is torch.bfloat16


@pytest.mark.parametrize("capabilities", [{"avx2": True, "avx512_bf16": False, "amx_bf16": False}, {}])
def test_any_other_cpu_computes_in_float32(capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fast_dtype(CPU) is torch.float32


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_uses_bfloat16_only_where_it_is_native(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert fast_dtype(CUDA) is dtype
