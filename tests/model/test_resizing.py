from typing import Any

import pytest
import torch

from model.resizing import ResizingError, resized
from model.rrdb import RRDBConfig
from tests.model.examples import random_net

SMALL = RRDBConfig(channels=6, blocks=3, growth=2, scale=2)


@pytest.mark.parametrize("sizes", [{"channels": 10}, {"growth": 5}, {"channels": 7, "growth": 3}, {}])
@pytest.mark.parametrize("gain", [0.0, 0.5])
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        RRDBConfig(channels=4, blocks=1, growth=1, scale=3, inputs=1),
        RRDBConfig(channels=6, blocks=1, growth=2, scale=1, unshuffle=4),
        RRDBConfig(channels=6, blocks=1, growth=2, scale=4, padding_mode="replicate"),
    ],
    ids=["x2", "grey x3", "x1 behind an unshuffle", "repeated borders"],
)
def test_a_wider_network_makes_the_same_pictures(config: RRDBConfig, gain: float, sizes: dict[str, int]) -> None:
    net = random_net(config)
    wide = resized(net, channels=sizes.get("channels"), growth=sizes.get("growth"), gain=gain)
    assert vars(wide.config) == vars(config) | sizes
    low = torch.rand(1, 3, 9, 10)
    torch.testing.assert_close(wide(low), net(low), rtol=1e-4, atol=1e-5)


def gradients(gain: float) -> dict[str, torch.Tensor]:
    """The gradient of each parameter of a network that was widened from 6 channels and growth 2 to 10 and 5."""
    wide = resized(random_net(SMALL), channels=10, growth=5, gain=gain).requires_grad_(True)
    wide(torch.rand(1, 3, 9, 10)).square().sum().backward()
    return {name: weight.grad for name, weight in wide.named_parameters() if weight.grad is not None}


def test_what_reads_the_added_features_can_be_trained() -> None:
    for name, gradient in gradients(gain=0.5).items():
        if name.endswith("weight"):
            unread = gradient.flatten(2).abs().amax(2) == 0
            assert not unread[: 2 if "conv5" not in name else 6].any(), name


def test_features_that_are_zero_are_never_trained() -> None:
    assert not gradients(gain=0)["body.0.rdb1.conv2.weight"][:, 6:10].any()


def test_blocks_can_be_left_out() -> None:
    net = random_net(SMALL)
    less = resized(net, without=[1])
    assert less.config == RRDBConfig(channels=6, blocks=2, growth=2, scale=2)
    all_weights, weights = net.state_dict(), less.state_dict()
    assert torch.equal(weights["body.1.rdb3.conv5.weight"], all_weights["body.2.rdb3.conv5.weight"])
    assert torch.equal(weights["body.0.rdb1.conv1.bias"], all_weights["body.0.rdb1.conv1.bias"])


def test_the_seed_decides() -> None:
    one, same, other = (resized(random_net(SMALL), channels=8, seed=seed).conv_hr.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"channels": 5}, "5 channels and growth 2 are less than the network's 6 and 2; it can only become wider"),
        ({"channels": 0}, "0 channels"),
        ({"growth": 1}, "6 channels and growth 1 are less than the network's 6 and 2"),
        ({"channels": 1025}, "1025 channels and growth 2 could not be read again; 1024 is the most"),
        ({"growth": 1025}, "6 channels and growth 1025 could not be read again"),
        ({"without": [3]}, "there is no block 3: the network has the blocks 0 to 2"),
        ({"without": [-1]}, "there is no block -1"),
        ({"without": [0, 1, 2]}, "no block would be left"),
    ],
)
def test_what_it_cannot_make_is_refused(sizes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ResizingError, match=complaint):
        resized(random_net(SMALL), **sizes)
