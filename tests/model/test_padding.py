import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.padding import fill_border, pad_by_repeating
from model.rrdb import Conv3x3


def maps(*channels: int, height: int = 4, width: int = 5, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(2, count, height, width, generator=chance).to(dtype) for count in channels]


@pytest.mark.parametrize(("height", "width"), [(4, 5), (1, 1), (1, 6), (6, 1), (2, 2)])
@pytest.mark.parametrize("channels", [(3,), (3, 1), (2, 1, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_torchs_replicate_padding_of_the_joined_maps(
    channels: tuple[int, ...], height: int, width: int, dtype: torch.dtype
) -> None:
    features = maps(*channels, height=height, width=width, dtype=dtype)
    expected = functional.pad(torch.cat(features, dim=1), [1] * 4, mode="replicate")
    assert torch.equal(pad_by_repeating(*features), expected)


def test_the_result_has_its_channels_last_in_memory() -> None:
    for form in (torch.contiguous_format, torch.channels_last):
        padded = pad_by_repeating(*(one.contiguous(memory_format=form) for one in maps(3, 4)))
        assert padded.is_contiguous(memory_format=torch.channels_last)


def test_the_maps_are_left_alone() -> None:
    features = maps(3, 2)
    pad_by_repeating(*features).zero_()
    assert all(torch.equal(one, other) for one, other in zip(features, maps(3, 2), strict=True))


@pytest.mark.parametrize(("height", "width"), [(3, 3), (1, 1), (1, 3), (2, 1)])
def test_the_gradient_is_right(height: int, width: int) -> None:
    features = [one.requires_grad_() for one in maps(2, 1, height=height, width=width, dtype=torch.float64)]
    assert torch.autograd.gradcheck(pad_by_repeating, features)


def test_a_map_that_needs_no_gradient_may_stand_next_to_one_that_does() -> None:
    fixed, learnt = maps(2, 1)
    learnt.requires_grad_()
    pad_by_repeating(fixed, learnt).sum().backward()
    assert fixed.grad is None
    assert learnt.grad is not None
    assert learnt.grad.sum() == (4 + 2) * (5 + 2) * 2


def test_a_border_is_filled_from_the_pixels_next_to_it() -> None:
    (inner,) = maps(3)
    padded = torch.full((2, 3, 6, 7), torch.nan)
    padded[:, :, 1:-1, 1:-1] = inner
    fill_border(padded)
    assert torch.equal(padded, functional.pad(inner, [1] * 4, mode="replicate"))


def test_a_convolution_gives_the_output_and_the_gradients_of_torchs_own() -> None:
    conv = Conv3x3(5, 4, "replicate")
    theirs = torch.nn.Conv2d(5, 4, 3, padding=1, padding_mode="replicate")
    theirs.load_state_dict(conv.state_dict())
    ours, others = maps(2, 3), maps(2, 3)
    for one in (*ours, *others):
        one.requires_grad_()
    output, expected = conv(*ours), theirs(torch.cat(others, dim=1))
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip((*ours, *conv.parameters()), (*others, *theirs.parameters()), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_convolution_that_pads_by_zeros_is_torchs_own_on_the_joined_maps() -> None:
    conv, features = Conv3x3(5, 4, "zeros"), maps(2, 3)
    expected = functional.conv2d(torch.cat(features, dim=1), conv.weight, conv.bias, padding=1)
    assert torch.equal(conv(*features), expected)
