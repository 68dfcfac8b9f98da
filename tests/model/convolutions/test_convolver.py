from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import Convolver
from model.convolutions.fused import FusedConvolver
from model.convolutions.library import OneDnnConvolver, library_convolution
from model.convolutions.native import amx
from model.convolutions.native.amx_convolver import AmxConvolver
from model.convolutions.native.winograd import WinogradConvolver
from model.convolutions.trial import one_dnn_takes
from model.rrdb import NEGATIVE_SLOPE

WAYS = {
    "library": lambda: library_convolution,
    "oneDNN": OneDnnConvolver,
    "Winograd": lambda: WinogradConvolver(library_convolution),
    "AMX": lambda: AmxConvolver(library_convolution),
}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def convolve(request: pytest.FixtureRequest) -> Convolver:
    made: Convolver = request.param()
    return made


def conv_and_window(dtype: torch.dtype, rows: int = 7) -> tuple[nn.Conv2d, Tensor]:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3, padding=1).to(dtype).requires_grad_(False)
    return conv, torch.rand(2, 16, rows, 13).to(dtype).contiguous(memory_format=torch.channels_last)


def expected(conv: nn.Conv2d, window: Tensor, active: bool) -> Tensor:
    """float32."""
    assert conv.bias is not None
    made = functional.conv2d(window.float(), conv.weight.float(), conv.bias.float())
    return functional.leaky_relu(made, NEGATIVE_SLOPE) if active else made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("active", [False, True])
def test_every_way_makes_what_the_formula_says(convolve: Convolver, dtype: torch.dtype, active: bool) -> None:
    if isinstance(convolve, OneDnnConvolver) and not one_dnn_takes(dtype):
        pytest.skip(f"oneDNN has no {dtype} on this processor")
    conv, window = conv_and_window(dtype)
    made = convolve(conv, window, active=active)
    assert made.dtype is dtype
    tolerance = 1e-5 if dtype is torch.float32 else 0.02
    torch.testing.assert_close(made.float(), expected(conv, window, active), rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(amx.compiled() is None, reason="nothing is compiled")
def test_weights_in_float32_keep_their_precision_on_amx() -> None:
    conv, window = conv_and_window(torch.float32)
    window = window.bfloat16()
    made = AmxConvolver(library_convolution, portable=True)(conv, window)
    assert made.dtype is torch.float32
    torch.testing.assert_close(made, expected(conv, window, active=False), rtol=2e-5, atol=2e-5)


def test_the_result_may_go_into_other_channels_of_the_same_buffer(convolve: Convolver) -> None:
    conv, window = conv_and_window(torch.float32)
    buffer = torch.cat((window, torch.full((2, 8, 7, 13), torch.nan)), dim=1).contiguous(
        memory_format=torch.channels_last
    )
    target = buffer[:, 16:, 1:-1, 1:-1]
    assert convolve(conv, buffer[:, :16], active=True, target=target) is target
    torch.testing.assert_close(target, expected(conv, window, active=True))
    torch.testing.assert_close(buffer[:, :16], window)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_residual_is_added_to_the_first_channels_of_the_window(convolve: Convolver, dtype: torch.dtype) -> None:
    if isinstance(convolve, OneDnnConvolver) and not one_dnn_takes(dtype):
        pytest.skip(f"oneDNN has no {dtype} on this processor")
    conv, window = conv_and_window(dtype)
    tolerance = 1e-5 if dtype is torch.float32 else 0.02
    sums = window[:, :8, 1:-1, 1:-1].float() + 0.2 * expected(conv, window, active=False)
    torch.testing.assert_close(convolve(conv, window, residual=0.2).float(), sums, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_skip_is_added_to_in_its_own_precision(convolve: Convolver, dtype: torch.dtype) -> None:
    if isinstance(convolve, OneDnnConvolver) and not one_dnn_takes(dtype):
        pytest.skip(f"oneDNN has no {dtype} on this processor")
    conv, window = conv_and_window(dtype)
    skip = torch.rand(2, 8, 5, 11).contiguous(memory_format=torch.channels_last)
    sums = skip + 0.2 * expected(conv, window, active=False)
    assert convolve(conv, window, residual=0.2, skip=skip) is skip
    tolerance = 1e-5 if dtype is torch.float32 else 0.01
    torch.testing.assert_close(skip, sums, rtol=tolerance, atol=tolerance)


def test_weights_in_float32_keep_their_precision_over_a_window_in_bfloat16(convolve: Convolver) -> None:
    conv, window = conv_and_window(torch.float32)
    window = window.bfloat16()
    made = convolve(conv, window)
    assert made.dtype is torch.float32
    torch.testing.assert_close(made, expected(conv, window, active=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", [*WAYS.values(), FusedConvolver])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_window_that_is_too_low_makes_no_rows(way: Callable[[], Convolver], rows: int) -> None:
    conv, window = conv_and_window(torch.float32, rows)
    assert way()(conv, window).shape == (2, 8, 0, 11)
    assert way()(conv, window, residual=0.2).shape == (2, 8, 0, 11)


def test_weights_laid_out_for_one_window_are_right_for_others() -> None:
    convolve = OneDnnConvolver()
    for rows in (5, 40, 3):
        conv, window = conv_and_window(torch.float32, rows)
        torch.testing.assert_close(convolve(conv, window), expected(conv, window, active=False))
