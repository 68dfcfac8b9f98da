import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from model import winograd

pytestmark = pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")

SIDES = st.integers(1, 40)
CHANNELS = st.integers(1, 6).map(lambda registers: 8 * registers)


def window_and_target(planes: int, channels: int, made: int, rows: int, width: int) -> tuple[torch.Tensor, ...]:
    """Channels of one buffer, everything else in it not a number."""
    buffer = torch.full((planes, rows + 4, width, 8 + channels + made), torch.nan).permute(0, 3, 1, 2)
    window = buffer[:, 8 : 8 + channels, 1:-1]
    window.copy_(torch.rand(window.shape) - 0.5)
    return window, buffer[:, 8 + channels :, 2:-2], buffer


@settings(max_examples=60, deadline=None)
@given(
    planes=st.integers(1, 3), channels=CHANNELS, made=CHANNELS, rows=SIDES, width=SIDES, slope=st.sampled_from([1, 0.2])
)
def test_it_is_a_convolution_for_every_size(
    planes: int, channels: int, made: int, rows: int, width: int, slope: float
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, made, 3).requires_grad_(False)
    window, target, buffer = window_and_target(planes, channels, made, rows, width)
    before = window.clone()
    winograd.Packed(conv)(window, target, negative_slope=slope)
    assert conv.bias is not None
    exact = functional.conv2d(window.double(), conv.weight.double(), conv.bias.double(), padding=(0, 1))
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
    assert conv.bias is not None
    made = functional.conv2d(window.double(), conv.weight.double(), conv.bias.double(), padding=(0, 1))
    torch.testing.assert_close(target.double(), window[:, :8, 1:-1] - 0.5 * made, rtol=0, atol=1e-5)


def test_what_is_not_finite_stays_so() -> None:
    conv = nn.Conv2d(8, 8, 3).requires_grad_(False)
    window, target, _ = window_and_target(1, 8, 8, 12, 12)
    window[0, 3, 7, 5] = torch.inf
    winograd.Packed(conv)(window, target, negative_slope=0.2)
    assert not target[:, :, 5:8, 4:7].isfinite().any()


def test_pictures_of_a_batch_do_not_change_one_another() -> None:
    conv = nn.Conv2d(16, 16, 3).requires_grad_(False)
    packed = winograd.Packed(conv)
    together, target, _ = window_and_target(5, 16, 16, 9, 21)
    packed(together, target)
    for number in range(5):
        alone = torch.empty_like(target[:1])
        packed(together[number : number + 1], alone)
        assert torch.equal(alone[0], target[number])


def test_a_convolution_without_bias() -> None:
    conv = nn.Conv2d(8, 8, 3, bias=False).requires_grad_(False)
    window, target, _ = window_and_target(1, 8, 8, 4, 4)
    winograd.Packed(conv)(window, target)
    torch.testing.assert_close(target, functional.conv2d(window, conv.weight, padding=(0, 1)))


@pytest.mark.parametrize(("channels", "made"), [(3, 64), (64, 3), (12, 20)])
def test_channels_that_fill_no_register_are_refused(channels: int, made: int) -> None:
    conv = nn.Conv2d(channels, made, 3)
    if winograd.takes(conv):
        pytest.skip("this processor has registers of four")
    with pytest.raises(ValueError, match=f"{channels} to {made} channels"):
        winograd.Packed(conv)


def test_16_bits_are_not_taken() -> None:
    assert not winograd.takes(nn.Conv2d(16, 16, 3).bfloat16())


def test_what_is_not_channels_last_is_refused() -> None:
    packed = winograd.Packed(nn.Conv2d(8, 8, 3))
    with pytest.raises(AssertionError, match="channels are not last"):
        packed(torch.rand(1, 8, 5, 5), torch.rand(1, 8, 3, 5))
