"""amx.c in plain C, on every processor, and on AMX, if available: both compute the same bits."""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from model.convolutions.native import amx
from model.convolutions.native.amx import Packed, convolve

pytestmark = pytest.mark.skipif(amx.compiled() is None, reason="nothing is compiled")

on_amx = pytest.mark.skipif(not amx.available(), reason="no AMX here")

WAYS = [True, pytest.param(False, marks=on_amx)]
"""In plain C or on AMX."""

CHANNELS = st.sampled_from([2, 12, 16, 32, 34, 48, 64])
MADE = st.sampled_from([1, 3, 16, 20, 32])


def channels_last(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Random numbers from -1 to 1."""
    planes, channels, rows, width = shape
    return (2 * torch.rand(planes, rows, width, channels) - 1).to(dtype).permute(0, 3, 1, 2)


def weights(made: int, channels: int) -> tuple[Tensor, Tensor]:
    return torch.randn(made, channels, 3, 3) / (9 * channels) ** 0.5, torch.randn(made)


def expected(window: Tensor, weight: Tensor, bias: Tensor, slope: float = 1.0) -> Tensor:
    """float64, of weights in bfloat16."""
    return functional.leaky_relu(functional.conv2d(window.double(), weight.bfloat16().double(), bias.double()), slope)


@pytest.mark.parametrize("portable", WAYS)
@settings(max_examples=15, deadline=None)
@given(
    planes=st.integers(1, 2),
    channels=CHANNELS,
    made=MADE,
    rows=st.integers(1, 6),
    width=st.sampled_from([1, 2, 15, 16, 17, 31, 70]),
    slope=st.sampled_from([1.0, 0.2]),
)
def test_it_is_a_convolution_for_every_size(
    portable: bool, planes: int, channels: int, made: int, rows: int, width: int, slope: float
) -> None:
    torch.manual_seed(0)
    weight, bias = weights(made, channels)
    buffer = torch.full((planes, rows + 4, width + 2, 6 + channels + made), torch.nan).bfloat16().permute(0, 3, 1, 2)
    window, target = buffer[:, 6 : 6 + channels, 1:-1], buffer[:, 6 + channels :, 2:-2, 1:-1]
    window.copy_(channels_last(*window.shape))
    before = window.clone()
    exact = torch.full_like(target, torch.nan, dtype=torch.float32)
    convolve(window, Packed(weight, bias), made=target, exact=exact, negative_slope=slope, portable=portable)
    torch.testing.assert_close(exact.double(), expected(before, weight, bias, slope), rtol=1e-5, atol=1e-5)
    assert torch.equal(target, exact.bfloat16())
    assert torch.equal(window, before)
    assert buffer.isnan().sum() == buffer.numel() - window.numel() - target.numel()


@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize("made", [3, 32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_result_is_added_to_a_skip(portable: bool, made: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, bias = weights(made, 32)
    window, skip = channels_last(2, 32, 7, 40), channels_last(2, made, 5, 38, dtype=dtype)
    exact = torch.empty_like(skip, dtype=torch.float32)
    convolve(window, Packed(weight, bias), exact=exact, skip=skip, scaling=-0.5, portable=portable)
    sums = skip.double() - 0.5 * expected(window, weight, bias)
    torch.testing.assert_close(exact.double(), sums, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_results_are_accumulated_once_where_they_are(portable: bool, dtype: torch.dtype) -> None:
    """The last block of a row overlaps the one before it."""
    torch.manual_seed(0)
    weight, bias = weights(16, 32)
    window, total = channels_last(1, 32, 6, 23), channels_last(1, 16, 4, 21, dtype=dtype)
    sums = total.double() + expected(window, weight, bias)
    made, exact = (None, total) if dtype is torch.float32 else (total, None)
    convolve(window, Packed(weight, bias), made=made, exact=exact, skip=total, portable=portable)
    torch.testing.assert_close(total.double(), sums, rtol=1e-5 if dtype is torch.float32 else 0.01, atol=1e-2)


@pytest.mark.parametrize("portable", WAYS)
def test_rows_and_columns_may_be_computed_apart(portable: bool) -> None:
    torch.manual_seed(0)
    packed = Packed(*weights(16, 48))
    window = channels_last(1, 48, 13, 90)
    whole = torch.empty(1, 11, 88, 16).permute(0, 3, 1, 2)
    convolve(window, packed, exact=whole, portable=portable)
    for first, end in ((0, 1), (1, 3), (3, 8), (8, 11)):
        apart = torch.empty_like(whole[:, :, first:end])
        convolve(window[:, :, first : end + 2], packed, exact=apart, portable=portable)
        assert torch.equal(apart, whole[:, :, first:end])
    for first, end in ((0, 7), (7, 30), (30, 88)):
        apart = torch.empty_like(whole[:, :, :, first:end])
        convolve(window[:, :, :, first : end + 2], packed, exact=apart, portable=portable)
        assert torch.equal(apart, whole[:, :, :, first:end])


@on_amx
@pytest.mark.parametrize(("least", "most"), [(100, 140), (55, 70), (0, 255)], ids=["usual", "tiny products", "all"])
def test_plain_c_makes_the_bits_of_the_chip(least: int, most: int) -> None:
    """Sums that are rounded, products that are taken as zero, infinity and NaN."""
    chance = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        exponents = torch.randint(least, most + 1, shape, generator=chance)
        others = torch.randint(0, 256, shape, generator=chance)
        bits = (others & 0x80) << 8 | exponents << 7 | others & 0x7F
        return bits.to(torch.int32).to(torch.int16).view(torch.bfloat16)

    packed = Packed(numbers(32, 48, 3, 3), torch.zeros(32))
    window = numbers(1, 9, 22, 48).permute(0, 3, 1, 2)
    results = []
    for portable in (False, True):
        made, exact = numbers(1, 7, 20, 32).permute(0, 3, 1, 2), torch.empty(1, 7, 20, 32).permute(0, 3, 1, 2)
        convolve(window, packed, made=made, exact=exact, negative_slope=0.2, portable=portable)
        results.append((made.nan_to_num(nan=7), exact.nan_to_num(nan=7)))
    for chip, plain in zip(*results, strict=True):
        assert torch.equal(chip, plain)


@on_amx
def test_the_peak_is_measured_on_every_thread() -> None:
    """In a fresh process, as by `benchmarks.rig.peaks`: a wrong configuration of the tiles ends it."""
    code = (
        "from model.convolutions.native.amx import multiply_tiles as m; print(m(10) % m(1), m(1) / 2 / 4 / 16**2 / 32)"
    )
    for threads in (1, 2):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["0.0", f"{threads}.0"]


def test_sums_are_rounded_as_the_manual_says() -> None:
    """Even and odd channels are added up apart, each product with one rounding; found by hand, in double precision."""
    values = (1.0, 2.0**-24, 1.0, 3 * 2.0**-25)
    weight = torch.zeros(1, 4, 3, 3)
    weight[0, :, 1, 1] = torch.tensor(values)
    window = torch.ones(1, 3, 3, 4).bfloat16().permute(0, 3, 1, 2)
    exact = torch.empty(1, 1, 1, 1)
    convolve(window, Packed(weight), exact=exact, portable=True)
    odd = values[1] + values[3]
    rounded = struct.unpack("f", struct.pack("f", 2 + odd))[0]
    assert exact.item() == rounded


@pytest.mark.parametrize("portable", WAYS)
def test_products_below_the_least_normal_number_are_zero(portable: bool) -> None:
    weight = torch.zeros(1, 2, 3, 3)
    weight[0, 0, 1, 1] = 2.0**-64
    window = torch.zeros(1, 3, 5, 2).bfloat16().permute(0, 3, 1, 2)
    window[0, 0, 1, 1:4] = torch.tensor([2.0**-62, 2.0**-63, -(2.0**-130)])
    exact = torch.empty(1, 1, 1, 3)
    convolve(window, Packed(weight), exact=exact, portable=portable)
    assert exact.flatten().tolist() == [2.0**-126, 0, 0]


@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_what_is_not_finite_stays_so(portable: bool, value: float) -> None:
    torch.manual_seed(0)
    window, made = channels_last(1, 32, 8, 12), torch.empty(1, 6, 10, 16).bfloat16().permute(0, 3, 1, 2)
    window[0, 3, 4, 5] = value
    convolve(window, Packed(*weights(16, 32)), made=made, negative_slope=0.2, portable=portable)
    assert not made[:, :, 2:5, 3:6].isfinite().any()
    assert made.isfinite().sum() == made.numel() - 9 * 16


def test_weights_may_be_laid_out_in_any_way() -> None:
    weight, bias = weights(16, 32)
    weight = weight.bfloat16()
    other = weight.to(memory_format=torch.channels_last)
    assert torch.equal(Packed(weight, bias).weights, Packed(other, bias).weights)


def test_an_odd_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="in_channels is 3"):
        Packed(torch.rand(16, 3, 3, 3))


@pytest.mark.parametrize(
    ("window", "made", "why"),
    [
        (torch.rand(1, 5, 5, 32).permute(0, 3, 1, 2), None, "window is torch.float32"),
        (torch.rand(1, 32, 5, 5).bfloat16(), None, "channels of window are not last"),
        (channels_last(1, 16, 5, 5), None, "16 channels instead of 32"),
        (channels_last(1, 32, 2, 5), None, "2 rows"),
        (channels_last(1, 32, 5, 5), channels_last(1, 16, 5, 5), "made is"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(window: Tensor, made: Tensor | None, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        convolve(window, Packed(torch.rand(16, 32, 3, 3)), made=made, portable=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler")
def test_a_compiler_without_amx_makes_a_library_without_it(tmp_path: Path) -> None:
    source, library = amx.LIBRARY.with_name("amx.c"), tmp_path / "libamx.so"
    # Compilers other than GCC get the plain half of the source.
    subprocess.run(["cc", "-D__clang__", "-fPIC", "-shared", "-o", library, source, "-lm"], check=True)
    assert ctypes.CDLL(str(library)).amx_available() == 0


REFUSED = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
room = ctypes.create_string_buffer(8192)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(room), 0, len(room))), None) == 0
print(ctypes.CDLL(LIBRARY).amx_available())
"""
"""A process whose signal stack is too small for the tiles: the kernel denies it the unit."""


@on_amx
def test_a_kernel_that_refuses_the_registers_is_no_error() -> None:
    program = f"LIBRARY = {str(amx.LIBRARY)!r}\n{REFUSED}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_a_processor_without_it_never_gets_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    window, made = channels_last(1, 32, 3, 3), channels_last(1, 16, 1, 1)
    with pytest.raises(AssertionError, match="no AMX"):
        convolve(window, Packed(torch.rand(16, 32, 3, 3)), made=made)
