from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.rrdb import RRDB, ResidualDenseBlock, RRDBConfig, RRDBNet
from tests.model.examples import TINY, random_net
from training.recipes import COMPACT

PAPER = RRDBConfig(channels=64, blocks=23, growth=32, scale=4)


def count_macs(net: RRDBNet, height: int, width: int) -> int:
    """Multiplications of the convolutions of one forward pass, including zero padding."""
    macs = 0

    def count(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(conv, nn.Conv2d)
        macs += output.numel() * conv.weight[0].numel()

    for conv in net.modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_hook(count)
    net(torch.zeros(1, 3, height, width))
    return macs


def test_the_defaults_are_the_sizes_of_the_paper() -> None:
    assert RRDBConfig() == PAPER


def test_the_generator_of_the_paper_has_16697987_parameters() -> None:
    with torch.device("meta"):
        net = RRDBNet(PAPER)
    assert sum(weight.numel() for weight in net.parameters()) == 16_697_987


def test_the_generator_of_the_paper_costs_17926848_macs_for_each_low_res_px() -> None:
    assert PAPER.macs_per_low_res_px == 17_926_848


def test_the_compact_generator_costs_at_most_1_8_million_macs() -> None:
    assert (COMPACT.channels, COMPACT.blocks, COMPACT.growth) == (32, 8, 16)
    assert COMPACT.macs_per_low_res_px <= 1_800_000


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize(("channels", "blocks", "growth"), [(4, 1, 2), (5, 3, 7)])
def test_the_stated_macs_are_those_the_convolutions_do(channels: int, blocks: int, growth: int, scale: int) -> None:
    config = RRDBConfig(channels=channels, blocks=blocks, growth=growth, scale=scale)
    assert count_macs(RRDBNet(config), 3, 2) == 3 * 2 * config.macs_per_low_res_px


def test_a_network_of_given_weights_shares_them_and_needs_no_gradients() -> None:
    given = random_net().state_dict()
    net = RRDBNet.of(TINY, given)
    assert all(weight.data_ptr() == given[name].data_ptr() for name, weight in net.state_dict().items())
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())


def test_the_keys_are_those_of_the_published_weights() -> None:
    dense = [f"body.0.rdb{block}.conv{conv}" for block in (1, 2, 3) for conv in (1, 2, 3, 4, 5)]
    layers = ["conv_first", *dense, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    assert list(RRDBNet(TINY).state_dict()) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_the_result_is_scale_times_larger(scale: int) -> None:
    net = random_net(RRDBConfig(channels=4, blocks=1, growth=2, scale=scale))
    assert net(torch.rand(2, 3, 5, 7)).shape == (2, 3, 5 * scale, 7 * scale)


def test_one_pixel_is_a_picture() -> None:
    assert random_net()(torch.rand(1, 3, 1, 1)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("scale", [-4, 0, 5, 6, 16])
def test_a_scale_that_no_published_network_has_is_refused(scale: int) -> None:
    with pytest.raises(ValueError, match=f"scale is {scale}; it must be one of"):
        RRDBConfig(scale=scale)


@pytest.mark.parametrize("size", ["channels", "blocks", "growth"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_below_one_is_refused(size: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{size} is {value}; it must be at least 1"):
        replace(TINY, **{size: value})  # type: ignore[arg-type]  # to mypy a size might be the padding mode


@pytest.mark.parametrize("size", ["channels", "blocks", "growth"])
def test_a_size_that_could_not_be_read_again_is_refused(size: str) -> None:
    largest: dict[str, Any] = {size: 1024}
    replace(TINY, **largest)
    with pytest.raises(ValueError, match=f"{size} is 1025; it must be at most 1024"):
        replace(TINY, **{size: largest[size] + 1})


def by_hand(block: ResidualDenseBlock, x: Tensor) -> Tensor:
    """The dense block of figure 4, written out layer by layer."""

    def conv(layer: nn.Conv2d, features: Tensor) -> Tensor:
        return functional.conv2d(features, layer.weight, layer.bias, stride=1, padding=1)

    def active(features: Tensor) -> Tensor:
        return torch.where(features > 0, features, 0.2 * features)

    x1 = active(conv(block.conv1, x))
    x2 = active(conv(block.conv2, torch.cat((x, x1), 1)))
    x3 = active(conv(block.conv3, torch.cat((x, x1, x2), 1)))
    x4 = active(conv(block.conv4, torch.cat((x, x1, x2, x3), 1)))
    return x + 0.2 * conv(block.conv5, torch.cat((x, x1, x2, x3, x4), 1))


def block_of(net: RRDBNet) -> RRDB:
    block = net.body[0]
    assert isinstance(block, RRDB)
    return block


def test_a_dense_block_is_the_formula_of_the_paper() -> None:
    block = block_of(random_net()).rdb1
    x = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(x), by_hand(block, x))


def test_an_rrdb_scales_its_three_dense_blocks_once_more() -> None:
    rrdb = block_of(random_net())
    x = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    inner = by_hand(rrdb.rdb3, by_hand(rrdb.rdb2, by_hand(rrdb.rdb1, x)))
    torch.testing.assert_close(rrdb(x), x + 0.2 * inner)


def test_a_forward_pass_leaves_its_input_alone() -> None:
    picture = torch.rand(1, 3, 4, 4)
    before = picture.clone()
    random_net()(picture)
    assert torch.equal(picture, before)


REPEATING = replace(TINY, padding_mode="replicate")


def rim_and_spread(config: RRDBConfig, colour: Tensor) -> tuple[float, float]:
    """Upscale a flat picture; returns the difference of its outer 4 px from the middle, and the middle's spread."""
    upscaled = random_net(config).double()(colour.double().view(1, 3, 1, 1).expand(1, 3, 12, 9))[0]
    middle = upscaled[:, upscaled.shape[1] // 2, upscaled.shape[2] // 2].view(3, 1, 1)
    error = (upscaled - middle).abs()
    return float(error.max()), float(error[:, 4:-4, 4:-4].max())


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.2, 0.9, 0.5), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_flat_picture_stays_flat_up_to_its_border_where_borders_are_repeated(
    scale: int, colour: tuple[float, ...]
) -> None:
    rim, spread = rim_and_spread(replace(REPEATING, scale=scale), torch.tensor(colour))
    assert max(rim, spread) < 1e-12
    assert rim_and_spread(replace(TINY, scale=scale), torch.tensor(colour))[0] > 1e-3  # zeros leave a rim


def test_networks_of_both_paddings_have_the_same_weights() -> None:
    weights, others = random_net().state_dict(), RRDBNet(REPEATING).state_dict()
    assert [(name, weight.shape) for name, weight in weights.items()] == [
        (name, weight.shape) for name, weight in others.items()
    ]


def test_the_padding_is_seen_at_the_border_alone() -> None:
    config = RRDBConfig(channels=4, blocks=1, growth=2, scale=1)
    picture = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    one, other = (random_net(config).double(), RRDBNet(replace(config, padding_mode="replicate")).double())
    other.load_state_dict(one.state_dict())
    difference = (one(picture.double()) - other(picture.double())).abs()
    reach = 15 + 4  # convolutions, one after the other
    assert difference[..., reach:-reach, reach:-reach].max() < 1e-12
    assert difference.max() > 1e-3


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"padding_mode is 'reflect'; it must be one of \('zeros', 'replicate'\)"):
        RRDBConfig(padding_mode="reflect")  # type: ignore[arg-type]
