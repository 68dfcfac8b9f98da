"""The choice of tilings, with a fake kernel that uses PyTorch."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions import fused
from model.convolutions.fused import Packed
from model.convolutions.tuning import NoTilingError, tuned
from model.device import DeviceMemoryError
from model.rrdb import ResidualDenseBlock
from model.workspace import Padding

WINDOWS = ((12, 14), (14, 20))
KINDS = {(8, 4), (12, 4), (16, 4), (20, 4), (24, 8), (8, 8)}

Fault = Callable[[str, Tensor, Padding | None], None]


class Kernel:
    """Convolves like the real one; `fault` may raise, or spoil the target."""

    def __init__(self, fault: Fault = lambda *_: None) -> None:
        self.fault = fault
        self.tiling = ""

    def __call__(
        self,
        window: Tensor,
        weight: Packed,
        target: Tensor,
        *,
        skip: Tensor | None = None,
        negative_slope: float = 1.0,
        scaling: float = 1.0,
        padding: Padding | None = None,
        tiling: str = "",
    ) -> None:
        self.tiling = tiling
        seen = window.clone()
        if padding is not None:
            height, width = padding.sizes[0].tolist()
            inside = seen[:, :, 1 : 1 + height, 1 : 1 + width].float()
            mode = "replicate" if padding.repeats else "constant"
            seen[:, :, : height + 2, : width + 2] = functional.pad(inside, (1, 1, 1, 1), mode=mode).to(seen.dtype)
        taps = weight.weight[:, : weight.in_channels, : weight.out_channels].float()
        kernel = taps.reshape(3, 3, *taps.shape[1:]).permute(3, 2, 0, 1)
        made = functional.conv2d(seen.float(), kernel, weight.bias[: weight.out_channels])
        made = functional.leaky_relu(made, negative_slope)
        target.copy_(scaling * made + (0 if skip is None else skip))
        self.fault(tiling, target, padding)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(fused, "convolve", made)
    monkeypatch.setattr(fused, "tilings", lambda made: ("fast", "middling", "slow"))
    return made


def found(kernel: Kernel, dtype: torch.dtype = torch.bfloat16) -> dict[tuple[int, int], object]:
    torch.manual_seed(0)
    block, body = ResidualDenseBlock(8, 4), nn.Conv2d(8, 8, 3, padding=1)
    seconds = {"fast": 1.0, "middling": 2.0, "slow": 3.0}

    def clock(call: Callable[[], object], device: torch.device) -> float:
        call()
        return seconds[kernel.tiling]

    with torch.inference_mode():
        for net in (block, body):
            net.requires_grad_(False).to(dtype)
        return dict(tuned(block, body, windows=WINDOWS, clock=clock))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_fastest_tiling_serves_every_kind(kernel: Kernel, dtype: torch.dtype) -> None:
    assert found(kernel, dtype) == dict.fromkeys(KINDS, ("fast", "fast"))


def test_a_tiling_that_does_not_fit_is_left_out(kernel: Kernel) -> None:
    def fault(tiling: str, target: Tensor, padding: Padding | None) -> None:
        if tiling == "fast":
            raise RuntimeError("out of resource: shared memory, Required: 110592, Hardware limit: 101376")

    kernel.fault = fault
    assert set(found(kernel).values()) == {("middling", "middling")}


@pytest.mark.parametrize("value", [torch.nan, 9.0])
def test_a_tiling_that_is_wrong_for_one_picture_size_is_left_out_there(
    kernel: Kernel, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(tiling: str, target: Tensor, padding: Padding | None) -> None:
        if tiling == "fast" and target.shape[3] == WINDOWS[1][1] - 2:
            target[:, 0, 3, 2] = value

    kernel.fault = fault
    assert set(found(kernel).values()) == {("fast", "middling")}
    assert "is off by" in caplog.text


@pytest.mark.parametrize("repeats", [False, True])
def test_a_tiling_that_is_wrong_in_padded_batches_is_left_out(kernel: Kernel, repeats: bool) -> None:
    def fault(tiling: str, target: Tensor, padding: Padding | None) -> None:
        if tiling == "fast" and padding is not None and padding.repeats is repeats:
            target[:, 0, 0, 0] += 9

    kernel.fault = fault
    assert set(found(kernel).values()) == {("middling", "middling")}


def test_a_kind_without_a_right_tiling_is_the_librarys(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    def fault(tiling: str, target: Tensor, padding: Padding | None) -> None:
        if target.shape[1] == 8:
            raise RuntimeError("no kernel image is available")

    kernel.fault = fault
    with caplog.at_level(logging.WARNING):
        assert set(found(kernel)) == {kind for kind in KINDS if kind[1] == 4}
    assert caplog.messages == [
        f"no tiling is right for {kind} to 8 channels, so the library convolves them: no kernel image is available"
        for kind in (24, 8)
    ]


def test_a_kernel_that_does_not_run_at_all_is_one_error_that_says_why(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(tiling: str, target: Tensor, padding: Padding | None) -> None:
        raise RuntimeError("Failed to find C compiler")

    kernel.fault = fault
    with caplog.at_level(logging.INFO), pytest.raises(NoTilingError, match="Failed to find C compiler"):
        found(kernel)
    assert caplog.messages == []


def test_memory_that_does_not_suffice_says_nothing_about_a_tiling(kernel: Kernel) -> None:
    def fault(tiling: str, target: Tensor, padding: Padding | None) -> None:
        raise RuntimeError("Triton Error [CUDA]: out of memory")

    kernel.fault = fault
    with pytest.raises(DeviceMemoryError):
        found(kernel)
