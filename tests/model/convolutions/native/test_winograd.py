from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from model.convolutions.native import winograd

pytestmark = pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")

SIDES = st.integers(1, 40)
CHANNELS = st.integers(1, 6).map(lambda registers: 8 * registers)
MADE_CHANNELS = st.one_of(CHANNELS, st.integers(1, 40))
"""Numbers of channels, including ones that fill no register."""
PAIRED_CHANNELS = st.integers(1, 6).map(lambda registers: 16 * registers)


PATTERNS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (20, 20)]
"""Rows and columns after which the sign of a pixel changes."""

in_halves = pytest.mark.skipif(
    not winograd.takes(nn.Conv2d(32, 32, 3).half()), reason="this processor has no integers of 16 bits"
)


def window_and_target(
    planes: int, channels: int, made: int, rows: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, ...]:
    """Channels of one buffer that has NaN everywhere else."""
    buffer = torch.full((planes, rows + 4, width + 2, 8 + channels + made), torch.nan, dtype=dtype).permute(0, 3, 1, 2)
    window = buffer[:, 8 : 8 + channels, 1:-1]
    window.copy_(torch.rand(window.shape) - 0.5)
    return window, buffer[:, 8 + channels :, 2:-2, 1:-1], buffer


def exact_of(conv: nn.Conv2d, window: torch.Tensor) -> torch.Tensor:
    """float64."""
    assert conv.bias is not None
    return functional.conv2d(window.double(), conv.weight.double(), conv.bias.double())


@settings(max_examples=60, deadline=None)
@given(
    planes=st.integers(1, 3),
    channels=CHANNELS,
    made=MADE_CHANNELS,
    rows=SIDES,
    width=SIDES,
    slope=st.sampled_from([1, 0.2]),
)
def test_it_is_a_convolution_for_every_size(
    planes: int, channels: int, made: int, rows: int, width: int, slope: float
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, made, 3).requires_grad_(False)
    window, target, buffer = window_and_target(planes, channels, made, rows, width)
    before = window.clone()
    winograd.Packed(conv)(window, target, negative_slope=slope)
    exact = exact_of(conv, window)
    torch.testing.assert_close(target.double(), functional.leaky_relu(exact, slope), rtol=0, atol=1e-5)
    assert torch.equal(window, before)
    assert buffer.isnan().sum() == buffer.numel() - window.numel() - target.numel()


@settings(max_examples=20, deadline=None)
@given(planes=st.integers(1, 3), channels=CHANNELS, rows=SIDES, width=SIDES)
def test_a_residual_is_added_to_the_window(planes: int, channels: int, rows: int, width: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 8, 3).requires_grad_(False)
    window, target, _ = window_and_target(planes, channels, 8, rows, width)
    winograd.Packed(conv)(window, target, residual_scaling=-0.5)
    torch.testing.assert_close(
        target.double(), window[:, :8, 1:-1, 1:-1] - 0.5 * exact_of(conv, window), rtol=0, atol=1e-5
    )


@in_halves
@settings(max_examples=60, deadline=None)
@given(
    planes=st.integers(1, 3),
    channels=PAIRED_CHANNELS,
    made=MADE_CHANNELS,
    rows=SIDES,
    width=SIDES,
    slope=st.sampled_from([1, 0.2]),
    residual=st.sampled_from([0, 0.5]),
)
def test_it_is_a_convolution_in_halves(
    planes: int, channels: int, made: int, rows: int, width: int, slope: float, residual: float
) -> None:
    torch.manual_seed(0)
    made = min(made, channels)
    conv = nn.Conv2d(channels, made, 3).half().requires_grad_(False)
    window, target, buffer = window_and_target(planes, channels, made, rows, width, torch.float16)
    before = window.clone()
    winograd.Packed(conv)(window, target, negative_slope=slope, residual_scaling=residual)
    exact = functional.leaky_relu(exact_of(conv, window), slope)
    expected = window[:, :made, 1:-1, 1:-1].double() + residual * exact if residual else exact
    torch.testing.assert_close(target.double(), expected, rtol=0, atol=0.01)
    assert torch.equal(window, before)
    assert buffer.isnan().sum() == buffer.numel() - window.numel() - target.numel()


@in_halves
@pytest.mark.parametrize("largest", [1e-5, 1e-3, 1.0, 1e3, 3e4])
def test_halves_keep_their_precision_at_every_size(largest: float) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(192, 64, 3, bias=False).half().requires_grad_(False)
    window, target, _ = window_and_target(1, 192, 64, 24, 24, torch.float16)
    window.mul_(largest / window.abs().max())
    winograd.Packed(conv)(window, target)
    exact = functional.conv2d(window.double(), conv.weight.double())
    error_db = 20 * torch.log10(exact.std() / (target.double() - exact).std())
    assert error_db > 40  # of noise, which is the worst; of features with structure it is more


@in_halves
@pytest.mark.parametrize("sign", [1, -1])
def test_no_sum_of_integers_overflows(sign: int) -> None:
    """Pixels and weights that make the largest factors there are, in one direction."""
    conv = nn.Conv2d(192, 8, 3, bias=False).half().requires_grad_(False)
    conv.weight[:] = torch.tensor([[1, -1, 1], [-1, 1, -1], [1, -1, 1]]) * sign / 4
    window, target, _ = window_and_target(1, 192, 8, 16, 16, torch.float16)
    for rows, columns in ((torch.arange(18) // shift % 2, torch.arange(18) // other % 2) for shift, other in PATTERNS):
        window[:] = 2.0 * (rows[:, None] ^ columns) - 1
        winograd.Packed(conv)(window, target)
        exact = functional.conv2d(window.double(), conv.weight.double())
        torch.testing.assert_close(target.double(), exact, rtol=0.01, atol=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float16, marks=in_halves)])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_what_is_not_finite_stays_so(dtype: torch.dtype, value: float) -> None:
    conv = nn.Conv2d(16, 8, 3).to(dtype).requires_grad_(False)
    window, target, _ = window_and_target(1, 16, 8, 12, 12, dtype)
    window[0, 3, 7, 5] = value
    winograd.Packed(conv)(window, target, negative_slope=0.2)
    assert not target[:, :, 5:8, 3:6].isfinite().any()


@in_halves
def test_a_result_beyond_halves_is_not_finite() -> None:
    conv = nn.Conv2d(16, 8, 3).half().requires_grad_(False)
    conv.weight[:] = 1
    window, target, _ = window_and_target(1, 16, 8, 12, 12, torch.float16)
    window[:] = 6e4
    winograd.Packed(conv)(window, target)
    assert not target.isfinite().any()


@in_halves
def test_black_stays_black() -> None:
    conv = nn.Conv2d(16, 8, 3, bias=False).half().requires_grad_(False)
    window, target, _ = window_and_target(1, 16, 8, 12, 12, torch.float16)
    winograd.Packed(conv)(window.zero_(), target)
    assert not target.any()


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float16, marks=in_halves)])
def test_pictures_of_a_batch_do_not_change_one_another(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(16, 16, 3).to(dtype).requires_grad_(False)
    packed = winograd.Packed(conv)
    together, target, _ = window_and_target(5, 16, 16, 9, 21, dtype)
    packed(together, target)
    for number in range(5):
        alone = torch.empty_like(target[:1])
        packed(together[number : number + 1], alone)
        assert torch.equal(alone[0], target[number])


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float16, marks=in_halves)])
@pytest.mark.parametrize("grid_row", [0, 1, 2, 3, 7])
def test_rows_that_end_on_the_grid_may_be_computed_apart(dtype: torch.dtype, grid_row: int) -> None:
    torch.manual_seed(0)
    packed = winograd.Packed(nn.Conv2d(16, 16, 3).to(dtype).requires_grad_(False))
    window, target, _ = window_and_target(1, 16, 16, 19, 9, dtype)
    packed(window, target, grid_row=grid_row, residual_scaling=0.5)
    apart = torch.empty_like(target)
    cuts = [0, *range(-grid_row % 4 or 4, 19, 4), 19]
    for first, end in pairwise(cuts):
        packed(window[:, :, first : end + 2], apart[:, :, first:end], grid_row=grid_row + first, residual_scaling=0.5)
    assert torch.equal(apart, target)


def test_a_convolution_without_bias() -> None:
    conv = nn.Conv2d(8, 8, 3, bias=False).requires_grad_(False)
    window, target, _ = window_and_target(1, 8, 8, 4, 4)
    winograd.Packed(conv)(window, target)
    torch.testing.assert_close(target, functional.conv2d(window, conv.weight))


@pytest.mark.parametrize(("channels", "made"), [(3, 64), (64, 3), (12, 20)])
def test_channels_that_fill_no_register_are_refused(channels: int, made: int) -> None:
    conv = nn.Conv2d(channels, made, 3)
    if winograd.takes(conv):
        pytest.skip("this processor has registers of four")
    with pytest.raises(ValueError, match=f"{channels} to {made} channels"):
        winograd.Packed(conv)


def test_bfloat16_and_half_a_register_of_halves_are_not_taken() -> None:
    assert not winograd.takes(nn.Conv2d(16, 16, 3).bfloat16())
    assert not winograd.takes(nn.Conv2d(8, 16, 3).half())


def test_pixels_of_another_format_are_refused() -> None:
    window, target, _ = window_and_target(1, 16, 8, 12, 12, torch.float16)
    with pytest.raises(AssertionError, match="number format"):
        winograd.Packed(nn.Conv2d(16, 8, 3))(window, target)


def test_what_is_not_channels_last_is_refused() -> None:
    packed = winograd.Packed(nn.Conv2d(8, 8, 3))
    with pytest.raises(AssertionError, match="channels are not last"):
        packed(torch.rand(1, 8, 5, 5), torch.rand(1, 8, 3, 5))
