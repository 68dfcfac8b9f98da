"""The kernel's tests run twice: here on a GPU (`-m gpu`), and everywhere on the CPU, in Triton's interpreter.

Triton chooses between the two when it is imported, so one test runs all of them in a process with the interpreter.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions import fused
from model.convolutions.fused import FusedConvolver, Packed, convolve, pack
from model.device import exact_float32
from model.rrdb import NEGATIVE_SLOPE, PADDING_MODES, RESIDUAL_SCALING, PaddingMode, ResidualDenseBlock
from model.workspace import Padding

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
GPU = pytest.mark.gpu
on_device = pytest.mark.parametrize("device", ["cpu"] if INTERPRETING else [pytest.param("cuda", marks=GPU)])

SIZES = [
    # images, channels in and out, rows, width
    (1, 1, 1, 1, 1),
    (1, 3, 5, 1, 7),
    (2, 5, 3, 4, 1),
    (1, 7, 16, 3, 17),
    (3, 16, 32, 5, 33),
    (1, 65, 2, 2, 16),
    (1, 33, 64, 9, 40),
]


@pytest.fixture(autouse=True)
def _float32() -> None:
    """Let cuDNN compute in float32, as every upscaler does."""
    exact_float32()


Refusal = Callable[[Tensor, Packed, Tensor, Tensor], object]


def conv3x3(channels: int, made: int, dtype: torch.dtype, device: str, seed: int = 0) -> nn.Conv2d:
    """A convolution with outputs of order 1."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(channels, made, 3, padding=1)
    nn.init.normal_(conv.weight, std=(9 * channels) ** -0.5)
    return conv.to(device, dtype).requires_grad_(False)


def filled(value: float, images: int, channels: int, rows: int, width: int, dtype: torch.dtype, device: str) -> Tensor:
    """(N, C, R, W), channels last."""
    return torch.full((images, rows, width, channels), value, dtype=dtype, device=device).permute(0, 3, 1, 2)


def expected(window: Tensor, conv: nn.Conv2d, slope: float = 1.0) -> Tensor:
    """float32 on the CPU."""
    assert conv.bias is not None
    made = functional.conv2d(window.float().cpu(), conv.weight.float().cpu(), conv.bias.float().cpu())
    return functional.leaky_relu(made, slope)


def assert_rounded(made: Tensor, exact: Tensor) -> None:
    """Equal up to float32's order of summing and one step of the target's format (the interpreter cuts off)."""
    torch.testing.assert_close(made.float().cpu(), exact, rtol=torch.finfo(made.dtype).eps, atol=2e-5)


def check_a_slice(size: tuple[int, int, int, int, int], dtype: torch.dtype, device: str) -> None:
    """From a slice of a buffer's channels, rows and columns into another, with NaN everywhere else."""
    images, channels, made, rows, width = size
    conv = conv3x3(channels, made, dtype, device)
    buffer = filled(torch.nan, images, channels + made + 5, rows + 4, width + 4, dtype, device)
    window = buffer[:, 2 : 2 + channels, 1:-1, 1:-1]
    window.copy_(torch.randn(window.shape))
    target = buffer[:, 3 + channels : 3 + channels + made, 2:-2, 2:-2]
    exact = expected(window, conv, NEGATIVE_SLOPE)

    before = buffer.clone()
    convolve(window, pack(conv), target, negative_slope=NEGATIVE_SLOPE)

    assert_rounded(target, exact)
    target.fill_(torch.nan)
    assert torch.equal(buffer.nan_to_num(nan=12345.0), before.nan_to_num(nan=12345.0))


@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", SIZES)
def test_only_the_slice_is_read_and_written(size: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    check_a_slice(size, dtype, device)  # type: ignore[arg-type]  # five of them


@on_device
@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("skip_dtype", [torch.float32, torch.bfloat16])
def test_the_residual_is_added_before_the_rounding(slope: float, skip_dtype: torch.dtype, device: str) -> None:
    conv = conv3x3(6, 9, torch.bfloat16, device)
    window = filled(0, 2, 6, 5, 20, torch.bfloat16, device).copy_(torch.randn(2, 6, 5, 20))
    skip = filled(0, 2, 11, 3, 18, skip_dtype, device).copy_(torch.randn(2, 11, 3, 18))[:, 1:10]
    target = filled(torch.nan, 2, 9, 3, 18, torch.float32, device)
    convolve(window, pack(conv), target, negative_slope=slope, skip=skip, scaling=0.3)
    assert_rounded(target, skip.float().cpu() + 0.3 * expected(window, conv, slope))


@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_skip_may_be_the_target(dtype: torch.dtype, device: str) -> None:
    conv = conv3x3(4, 4, dtype, device)
    window = filled(0, 1, 4, 8, 11, dtype, device).copy_(torch.randn(1, 4, 8, 11))
    target = filled(0, 1, 4, 6, 9, torch.float32, device).copy_(torch.randn(1, 4, 6, 9))
    exact = target.cpu() - 2 * expected(window, conv)
    convolve(window, pack(conv), target, skip=target, scaling=-2)
    assert_rounded(target, exact)


@on_device
def test_a_convolution_without_bias(device: str) -> None:
    conv = conv3x3(4, 4, torch.float32, device)
    window = filled(0, 1, 4, 3, 11, torch.float32, device).copy_(torch.randn(1, 4, 3, 11))
    target = filled(torch.nan, 1, 4, 1, 9, torch.float32, device)
    assert conv.bias is not None
    conv.bias.zero_()
    exact = expected(window, conv)
    conv.bias = None
    convolve(window, pack(conv), target)
    assert_rounded(target, exact)


@on_device
def test_a_dense_block_in_one_buffer(device: str) -> None:
    channels, growth, rows, width = 6, 4, 5, 19
    torch.manual_seed(0)
    block = ResidualDenseBlock(channels, growth).to(device).requires_grad_(False)
    buffer = filled(0, 2, channels + 4 * growth, rows + 2, width + 2, torch.float32, device)
    x = torch.randn(2, channels, rows, width, device=device)
    buffer[:, :channels, 1:-1, 1:-1] = x
    seen = channels
    for conv in block.growing:
        made = buffer[:, seen : seen + growth, 1:-1, 1:-1]
        convolve(buffer[:, :seen], pack(conv), made, negative_slope=NEGATIVE_SLOPE)
        seen += growth
    out = torch.empty_like(x, memory_format=torch.channels_last)
    skip = buffer[:, :channels, 1:-1, 1:-1]
    convolve(buffer, pack(block.conv5), out, skip=skip, scaling=RESIDUAL_SCALING)
    assert_rounded(out, block.cpu()(x.cpu()))


def sizes_of(tiling: Any) -> str:
    return "-".join(str(value) for value in tiling.all_kwargs().values())


def every_tiling() -> list[Any]:
    if find_spec("triton") is None or not (INTERPRETING or torch.cuda.is_available()):
        return []
    from model.convolutions import fused_kernel

    if INTERPRETING:
        cuts = ((1, 16, 64, False), (2, 32, 16, True), (4, 16, 32, True), (8, 16, 16, False))
        return [fused_kernel.tiling(*cut[:3], warps=4, stages=1, separate_sums=cut[3]) for cut in cuts]
    return list(dict.fromkeys((*fused_kernel.NARROW, *fused_kernel.WIDE)))


@on_device
@pytest.mark.parametrize("tiling", every_tiling(), ids=sizes_of)
@pytest.mark.parametrize("size", [(2, 5, 3, 4, 1), (1, 33, 16, 9, 40), (1, 160, 32, 7, 150)])
def test_every_tiling_gives_the_same(
    tiling: Any, size: tuple[int, ...], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if INTERPRETING and size[4] > 100:
        pytest.skip("the interpreter is slow, and this size is there for the real tilings")
    from model.convolutions import fused_kernel

    chosen = {**tiling.all_kwargs(), "widened": INTERPRETING, "enable_fp_fusion": True}
    monkeypatch.setattr(fused_kernel, "launchable", lambda *_: (fused_kernel.convolve_rows, chosen))
    try:
        check_a_slice(size, torch.bfloat16, device)  # type: ignore[arg-type]  # five of them
    except Exception as error:
        if type(error).__name__ != "OutOfResources":  # Triton's; `model.convolutions.tuning` leaves such a tiling out
            raise
        pytest.skip(f"this GPU has too little shared memory for it: {error}")


@on_device
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("factor", [1, 2])
def test_pictures_of_a_padded_batch_see_only_themselves(padding_mode: PaddingMode, factor: int, device: str) -> None:
    conv = conv3x3(5, 3, torch.float32, device)
    sizes = torch.tensor([[4, 9], [2, 10], [1, 1]], device=device)
    planes = filled(torch.nan, 3, 5, 4 * factor + 2, 10 * factor + 2, torch.float32, device)
    target = filled(torch.nan, 3, 3, 4 * factor, 10 * factor, torch.float32, device)
    inside = [
        planes[plane : plane + 1, :, 1 : 1 + height * factor, 1 : 1 + width * factor]
        for plane, (height, width) in enumerate(sizes.tolist())
    ]
    for picture in inside:
        picture.copy_(torch.randn(picture.shape))
    padding = Padding(sizes, 4, 10, padding_mode)
    convolve(planes, pack(conv), target, padding=padding)
    mode = "replicate" if padding_mode == "replicate" else "constant"
    for plane, picture in enumerate(inside):
        exact = expected(functional.pad(picture.cpu(), (1, 1, 1, 1), mode=mode), conv)
        made = target[plane : plane + 1, :, : picture.shape[2], : picture.shape[3]]
        assert_rounded(made, exact)


@GPU
@pytest.mark.parametrize("made", [32, 64])
def test_a_tuned_convolution_is_captured_and_replayed(made: int) -> None:
    conv = conv3x3(96, made, torch.bfloat16, "cuda")
    window = filled(0, 2, 96, 18, 202, torch.bfloat16, "cuda").copy_(torch.randn(2, 96, 18, 202))
    target = filled(torch.nan, 2, made, 16, 200, torch.bfloat16, "cuda")
    weight = pack(conv)
    convolve(window, weight, target, negative_slope=0.2)  # compiles and tunes
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        convolve(window, weight, target, negative_slope=0.2)
    window.copy_(torch.randn(window.shape))
    target.fill_(torch.nan)
    graph.replay()
    assert_rounded(target, expected(window, conv, 0.2))


@GPU
def test_a_buffer_beyond_32_bits_of_elements() -> None:
    conv = conv3x3(16, 16, torch.bfloat16, "cuda")
    images = filled(0, 3, 192, 3, 2_000_000, torch.bfloat16, "cuda")  # 1.15e9 elements each
    window = images[:, :16, :, -1000:].copy_(torch.randn(3, 16, 3, 1000))
    convolve(window, pack(conv), images[:, 16:32, 1:2, -999:-1])
    assert_rounded(images[:, 16:32, 1:2, -999:-1], expected(window, conv))


@pytest.mark.skipif(INTERPRETING or find_spec("triton") is None, reason="started by itself, and only with Triton")
def test_the_kernel_in_tritons_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not gpu and not slow", __file__]
    folder = Path(__file__).parents[3]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\d\d passed", run.stdout)


ARCHITECTURES = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 120: 99}
"""Compute capability -> KiB of shared memory that a program may have."""


def compiled(capability: int, channels: int, tiling: Any, *, sizes: bool = False, repeats: bool = False) -> Any:
    """The kernel for a GPU that need not be here, in bfloat16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model.convolutions import fused_kernel

    kernel, columns = fused_kernel.convolve_rows, 64 if tiling in fused_kernel.WIDE else 32
    number = "fp16" if capability < 80 else "bf16"
    pointers = {
        "window": f"*{number}",
        "target": f"*{number}",
        "skip": "*fp32",
        "weight": f"*{number}",
        "bias": "*fp32",
    }
    numbers = dict.fromkeys(("slope", "scaling"), "fp32") | dict.fromkeys(("height", "width", "factor"), "i32")
    strides = {name: "i32" for name in kernel.arg_names if re.search("_(image|row|pixel)$", name)}
    constants = {"channels": channels, "channels_padded": -(-channels // 64) * 64, "made": columns,
                 "columns": columns, "widened": False, "repeats": repeats, **tiling.kwargs}  # fmt: skip
    if sizes:
        pointers["sizes"] = "*i64"
    else:
        constants["sizes"] = None
    signature = {**dict.fromkeys(constants, "constexpr"), **pointers, **numbers, **strides}
    aligned = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in {**pointers, **strides}}
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constants, aligned)
    options = {"num_warps": tiling.num_warps, "num_stages": tiling.num_stages, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


needs_compiler = pytest.mark.skipif(INTERPRETING or find_spec("triton") is None, reason="compiles, without a GPU")


@needs_compiler
@pytest.mark.parametrize("capability", [80, 86, 89, 90, 120])
def test_every_gpu_with_a_tensor_core_for_it_has_a_tiling_that_fits(capability: int) -> None:
    from model.convolutions import fused_kernel

    made = compiled(capability, 64, fused_kernel.SMALL, sizes=True, repeats=True)
    assert made.metadata.shared <= ARCHITECTURES[capability] * 1024
    assert re.search("wgmma.mma_async|mma.sync", made.asm["ptx"])


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("channels", [64, 160])
@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_every_tiling_compiles_for_every_gpu(capability: int, channels: int) -> None:
    from model.convolutions import fused_kernel

    for tilings in (fused_kernel.NARROW, fused_kernel.WIDE):
        shared = [
            compiled(capability, channels, tiling).metadata.shared for tiling in tilings[: 4 if capability > 75 else 0]
        ]
        shared.append(compiled(capability, channels, fused_kernel.SMALL).metadata.shared)
        assert min(shared) <= ARCHITECTURES[capability] * 1024  # `tuning.py` leaves out those that do not fit


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("channels", [64, 160])
def test_hopper_multiplies_with_wgmma_and_every_tiling_fits(channels: int) -> None:
    from model.convolutions import fused_kernel

    for tiling in (*fused_kernel.NARROW, *fused_kernel.WIDE):
        for sizes in (False, True):
            made = compiled(90, channels, tiling, sizes=sizes)
            assert "wgmma.mma_async" in made.asm["ptx"]
            assert "cp.async" in made.asm["ptx"]
            assert made.metadata.shared <= ARCHITECTURES[90] * 1024


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, model.convolutions.fused; sys.exit('model.convolutions.fused_kernel' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=Path(__file__).parents[3], check=False).returncode == 0


def test_without_triton_or_a_gpu_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(fused, "find_spec", lambda name: None)
    assert not fused.available()
    monkeypatch.setattr(fused, "find_spec", lambda name: name)
    assert fused.available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not fused.available()
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert fused.available()


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2)],
)
def test_only_plain_3x3_convolutions_are_packed(conv: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="only 3x3"):
        pack(conv)


def test_packed_weights_are_taps_of_input_times_output_channels() -> None:
    conv = conv3x3(3, 5, torch.bfloat16, "cpu")
    packed = pack(conv)
    assert packed.weight.shape == (9, 64, 16)
    assert packed.weight.dtype == torch.bfloat16
    assert packed.bias.dtype == torch.float32
    assert packed.weight[5, 2, 4] == conv.weight[4, 2, 1, 2]
    assert packed.weight[:, 3:].abs().sum() == packed.weight[:, :, 5:].abs().sum() == packed.bias[5:].abs().sum() == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda w, p, t, s: convolve(w[:, :3], p, t), "3 channels"),
        (lambda w, p, t, s: convolve(w.half(), p, t), "float16"),
        (lambda w, p, t, s: convolve(w, p, t[:, :, 1:]), "the target is"),
        (lambda w, p, t, s: convolve(w, p, t, skip=s[..., 1:]), "the skip is"),
        (lambda w, p, t, s: convolve(w.contiguous(), p, t), "the window has strides"),
        (lambda w, p, t, s: convolve(w, p, t.int()), "the target is torch.int32"),
        (lambda w, p, t, s: convolve(w, p, t.to("meta")), "on meta"),
    ],
)
def test_what_does_not_fit_is_refused(call: Refusal, text: str) -> None:
    conv = conv3x3(4, 6, torch.float32, "cpu")
    window = filled(0, 1, 4, 5, 10, torch.float32, "cpu")
    target, skip = (filled(0, 1, 6, 3, 8, torch.float32, "cpu") for _ in range(2))
    with pytest.raises(ValueError, match=re.escape(text)):
        call(window, pack(conv), target, skip)


def test_no_rows_are_no_work() -> None:
    conv = conv3x3(4, 6, torch.float32, "cpu")
    nothing = filled(0, 1, 6, 0, 8, torch.float32, "cpu")
    convolve(filled(0, 1, 4, 2, 10, torch.float32, "cpu"), pack(conv), nothing)


@on_device
def test_the_convolver_runs_16_bit_convolutions_by_the_kernel(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []

    def counted(window: Tensor, *arguments: Any, **options: Any) -> None:
        calls.append(window.dtype)
        convolve(window, *arguments, **options)

    monkeypatch.setattr(fused, "convolve", counted)
    run = FusedConvolver()
    for dtype, tolerance in ((torch.bfloat16, 0.03), (torch.float32, 1e-4)):
        conv = conv3x3(16, 32, dtype, device)
        window = torch.rand(1, 6, 9, 16, device=device).permute(0, 3, 1, 2).to(dtype)
        made = run(conv, window, active=True).float().cpu()
        torch.testing.assert_close(made, expected(window, conv, NEGATIVE_SLOPE), rtol=tolerance, atol=tolerance)
    assert calls == [torch.bfloat16]


@on_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_convolver_adds_a_residual_to_the_window(device: str, dtype: torch.dtype) -> None:
    conv = conv3x3(16, 8, dtype, device)
    window = torch.rand(1, 6, 9, 16, device=device).permute(0, 3, 1, 2).to(dtype)
    made = FusedConvolver()(conv, window, residual=0.5).float().cpu()
    exact = window[:, :8, 1:-1, 1:-1].float().cpu() + 0.5 * expected(window, conv)
    torch.testing.assert_close(made, exact, rtol=0.01, atol=0.01)
