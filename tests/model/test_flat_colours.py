import pytest
import torch

from model.flat_colours import FLAT, correct_colours, upscaled_colours
from model.rrdb import RRDBConfig
from tests.model.examples import random_net


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_an_affine_error_of_colours_is_corrected(unshuffle: int) -> None:
    net = random_net(RRDBConfig(channels=8, blocks=1, growth=4, scale=2, unshuffle=unshuffle))
    wanted = upscaled_colours(net)
    net.conv_last.weight *= 1.1
    assert net.conv_last.bias is not None
    net.conv_last.bias += torch.tensor([0.1, 0.0, -0.1])
    before = (upscaled_colours(net) - wanted).square().mean()
    correct_colours(net, wanted)
    assert (upscaled_colours(net) - wanted).square().mean() < 0.05 * before


def test_a_network_that_keeps_colours_nearly_stays_as_it_is() -> None:
    net = random_net()
    before = net.conv_last.weight.clone()
    correct_colours(net, upscaled_colours(net))
    torch.testing.assert_close(net.conv_last.weight, before)


def test_the_zeros_around_a_picture_do_not_count() -> None:
    net = random_net()
    middles = net(FLAT[::9, :, None, None].expand(-1, -1, 24, 24))[:, :, 40:56, 40:56].mean((2, 3))
    torch.testing.assert_close(upscaled_colours(net)[::9].float(), middles, atol=1e-5, rtol=0)


def test_a_network_that_makes_one_colour_of_all_gets_their_mean() -> None:
    net = random_net()
    net.conv_last.weight.zero_()
    correct_colours(net)
    torch.testing.assert_close(upscaled_colours(net).mean(0).float(), torch.full((3,), 0.5))
    assert net.conv_last.weight.count_nonzero() == 0


def test_the_colours_are_all_over_the_cube() -> None:
    assert FLAT.shape == (64, 3)
    assert FLAT.unique().numel() == 4
    assert FLAT.unique(dim=0).shape == FLAT.shape
