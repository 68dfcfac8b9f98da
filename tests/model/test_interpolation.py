import re
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from app.settings import SHIPPED_MODELS
from model.files.checkpoint import Card, Checkpoint, read_checkpoint, reference_output
from model.flat_colours import upscaled_colours
from model.interpolation import InterpolationError, blended, interpolate, transferred
from model.rrdb import PaddingMode, RRDBConfig, RRDBNet
from tests.model.examples import TINY, random_net, textured

CARD = Card(name="psnr", recipe="by_hand", steps=0, data="noise", metrics={}, created="2025-01-01")
ALPHAS_OUT_OF_RANGE = [-0.01, 1.01, float("nan"), float("inf")]


def checkpoint_of(net: RRDBNet, name: str) -> Checkpoint:
    picture = textured(16, 20)
    return Checkpoint(
        net=net,
        card=replace(CARD, name=name),
        sha256="0" * 64,
        golden_input=picture,
        golden_output=reference_output(net, picture),
    )


def trained_on(net: RRDBNet, *, change: float = 0.02, seed: int = 7) -> RRDBNet:
    """A copy whose weights have all moved a little, as a second stage of training moves them."""
    copy = RRDBNet(net.config).eval().requires_grad_(False)
    copy.load_state_dict(net.state_dict())
    chance = torch.Generator().manual_seed(seed)
    for weight in copy.parameters():
        weight.add_(change * weight.std().nan_to_num() * torch.randn(weight.shape, generator=chance))
    return copy


def with_channels_in_another_order(net: RRDBNet) -> RRDBNet:
    """The same function, whose last feature maps are numbered backwards: as unrelated as two trainings."""
    copy = RRDBNet(net.config).eval().requires_grad_(False)
    weights = net.state_dict()
    for name in ("conv_hr.weight", "conv_hr.bias"):
        weights[name] = weights[name].flip(0)
    weights["conv_last.weight"] = weights["conv_last.weight"].flip(1)
    copy.load_state_dict(weights)
    return copy


@pytest.fixture
def psnr() -> Checkpoint:
    return checkpoint_of(random_net(), "psnr")


@pytest.fixture
def gan(psnr: Checkpoint) -> Checkpoint:
    return checkpoint_of(trained_on(psnr.net), "gan")


def test_networks_that_are_known_to_be_related_are_not_compared_again(psnr: Checkpoint) -> None:
    other = checkpoint_of(with_channels_in_another_order(psnr.net), "other")
    with pytest.raises(InterpolationError):
        interpolate(psnr, other, 0.5)
    assert interpolate(psnr, other, 0.5, related=True).config == TINY


@pytest.mark.parametrize("alpha", [0, 1])
def test_the_ends_are_the_two_originals(alpha: int, psnr: Checkpoint, gan: Checkpoint) -> None:
    expected = (psnr, gan)[alpha].net.state_dict()
    for name, weight in interpolate(psnr, gan, alpha).state_dict().items():
        assert torch.equal(weight, expected[name])


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_every_weight_but_the_last_is_interpolated_linearly(alpha: float, psnr: Checkpoint, gan: Checkpoint) -> None:
    one, other = psnr.net.state_dict(), gan.net.state_dict()
    between = interpolate(psnr, gan, alpha).state_dict()
    assert between.keys() == one.keys()
    for name, weight in between.items():
        if not name.startswith("conv_last"):
            torch.testing.assert_close(weight, (1 - alpha) * one[name] + alpha * other[name])


def flat_colours() -> torch.Tensor:
    return torch.cartesian_prod(*[torch.linspace(0, 1, 5)] * 3)[:, :, None, None].expand(-1, -1, 4, 4)


@pytest.mark.parametrize("end", ["esrgan", "real-esrgan"])
def test_colours_between_the_shipped_generators_are_as_exact_as_theirs(end: str) -> None:
    psnr, gan = (
        read_checkpoint(SHIPPED_MODELS / f"compact-{name}-x4.safetensors")
        for name in (end.replace("esrgan", "psnr"), end)
    )
    with torch.inference_mode():
        for alpha in (0.25, 0.5, 0.75):
            off = (interpolate(psnr, gan, alpha)(flat_colours()).mean((2, 3)) - flat_colours()[:, :, 0, 0]).abs()
            assert 255 * off.max() < 1  # level; up to 6.6 without the correction


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_flat_colours_between_two_networks_are_between_those_of_both(padding_mode: PaddingMode, unshuffle: int) -> None:
    net = random_net(
        RRDBConfig(channels=8, blocks=1, growth=4, scale=2, unshuffle=unshuffle, padding_mode=padding_mode)
    )
    psnr, gan = checkpoint_of(net, "psnr"), checkpoint_of(trained_on(net, change=0.2), "gan")
    mixed = interpolate(psnr, gan, 0.5, related=True)
    raw = RRDBNet(net.config).requires_grad_(False).eval()
    weights = gan.net.state_dict()
    raw.load_state_dict({name: (weight + weights[name]) / 2 for name, weight in net.state_dict().items()})
    wanted = (upscaled_colours(net) + upscaled_colours(gan.net)) / 2
    assert (upscaled_colours(mixed) - wanted).square().mean() < (upscaled_colours(raw) - wanted).square().mean()


def test_grey_networks_are_only_interpolated() -> None:
    net = random_net(RRDBConfig(channels=8, blocks=1, growth=4, scale=2, inputs=1))
    brighter = deepcopy(net)
    brighter.conv_last.weight *= 1.2
    mixed = interpolate(checkpoint_of(net, "psnr"), checkpoint_of(brighter, "gan"), 0.5)
    torch.testing.assert_close(mixed.conv_last.weight, 1.1 * net.conv_last.weight)


def test_a_network_and_one_trained_from_it_can_be_interpolated(psnr: Checkpoint, gan: Checkpoint) -> None:
    net = interpolate(psnr, gan, 0.5)
    assert net.config == TINY
    assert not net.training
    assert not torch.equal(reference_output(net, psnr.golden_input), gan.golden_output)


def test_interpolating_leaves_the_originals_alone(psnr: Checkpoint, gan: Checkpoint) -> None:
    before = {name: weight.clone() for name, weight in psnr.net.state_dict().items()}
    interpolate(psnr, gan, 0.5)
    assert all(torch.equal(weight, before[name]) for name, weight in psnr.net.state_dict().items())


def test_a_network_can_be_interpolated_with_itself(psnr: Checkpoint) -> None:
    between = interpolate(psnr, psnr, 0.3).state_dict()
    for name, weight in psnr.net.state_dict().items():
        torch.testing.assert_close(between[name], weight)


@pytest.mark.parametrize("alpha", ALPHAS_OUT_OF_RANGE)
def test_an_alpha_out_of_range_is_refused(alpha: float, psnr: Checkpoint, gan: Checkpoint) -> None:
    with pytest.raises(InterpolationError, match=re.escape(f"alpha is {alpha}; it must be in [0, 1]")):
        interpolate(psnr, gan, alpha)


def test_two_sizes_are_refused_with_both_of_them(psnr: Checkpoint) -> None:
    larger = checkpoint_of(random_net(RRDBConfig(channels=4, blocks=2, growth=2, scale=4)), "gan")
    with pytest.raises(InterpolationError, match=r"psnr is .*blocks=1.* and gan is .*blocks=2.*sizes must be equal"):
        interpolate(psnr, larger, 0.5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_two_networks_of_different_origin_are_refused_whatever_alpha(alpha: float, psnr: Checkpoint) -> None:
    other = checkpoint_of(with_channels_in_another_order(psnr.net), "other")
    far = (other.golden_output.int() - psnr.golden_output.int()).abs().max()
    assert far <= 1  # both make the same pictures, and yet nothing between them does
    with pytest.raises(
        InterpolationError, match="psnr and other were not trained from one another: the golden picture"
    ):
        interpolate(psnr, other, alpha)


def licensed(checkpoint: Checkpoint, **fields: Any) -> Checkpoint:
    return replace(checkpoint, card=replace(checkpoint.card, metrics={"Set5": {"psnr_y": 30.0}}, **fields))


def test_a_mixture_has_the_licences_data_and_sources_of_both(psnr: Checkpoint, gan: Checkpoint) -> None:
    one = licensed(psnr, licence="CC0-1.0", source="https://one", data="photos")
    other = licensed(gan, licence="CC-BY-NC-SA-4.0", source="", data="photos")
    card = blended(one, other, 0.95).card
    assert (card.licence, card.source, card.data) == ("CC0-1.0; CC-BY-NC-SA-4.0", "https://one; unknown", "photos")
    assert card.recipe == "interpolate psnr@000000000000 gan@000000000000 --alpha 0.95"
    assert card.metrics == {}


@pytest.mark.parametrize("alpha", [0, 1])
def test_a_mixture_that_is_one_of_the_two_has_the_card_of_that_one(
    alpha: int, psnr: Checkpoint, gan: Checkpoint
) -> None:
    both = licensed(psnr, licence="CC0-1.0"), licensed(gan, licence="CC-BY-NC-SA-4.0")
    assert blended(*both, alpha).card == both[alpha].card


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 1.0, 1.5])
def test_a_transfer_adds_the_difference_of_two_networks_to_a_third(
    alpha: float, psnr: Checkpoint, gan: Checkpoint
) -> None:
    later = checkpoint_of(trained_on(psnr.net, change=0.03, seed=8), "later")
    made = transferred(gan, psnr, later, alpha)
    weights = [dict(one.net.named_parameters()) for one in (made, gan, psnr, later)]
    for name, weight in weights[0].items():
        if not name.startswith("conv_last"):  # corrects the colours
            _, start, old, new = (each[name] for each in weights)
            assert torch.allclose(weight, start + alpha * (new - old), atol=1e-6)


def test_flat_colours_stay_those_of_the_generator_that_something_is_transferred_to(
    psnr: Checkpoint, gan: Checkpoint
) -> None:
    later = checkpoint_of(trained_on(psnr.net, change=0.03, seed=8), "later")
    made = transferred(gan, psnr, later, 1)
    uncorrected = RRDBNet(gan.net.config).requires_grad_(False)
    uncorrected.load_state_dict(made.net.state_dict())
    for name, weight in uncorrected.conv_last.named_parameters():
        old, new = (one.net.conv_last.get_parameter(name) for one in (psnr, later))
        weight.copy_(gan.net.conv_last.get_parameter(name) + new - old)
    drift, corrected = (
        (upscaled_colours(net) - upscaled_colours(gan.net)).square().mean() for net in (uncorrected, made.net)
    )
    assert corrected < 0.2 * drift


def test_the_card_of_a_transfer_names_all_three(psnr: Checkpoint, gan: Checkpoint) -> None:
    card = transferred(licensed(gan, licence="CC0-1.0"), psnr, licensed(psnr, licence="MIT"), 0.5).card
    named = " ".join(f"{name}@000000000000" for name in ("gan", "psnr", "psnr"))
    assert card.recipe == f"transfer {named} --alpha 0.5"
    assert card.licence == "CC0-1.0; MIT"
    assert card.metrics == {}


def test_transfers_of_other_shares_have_other_hashes(psnr: Checkpoint, gan: Checkpoint) -> None:
    later = checkpoint_of(trained_on(psnr.net, change=0.03, seed=8), "later")
    hashes = {transferred(gan, psnr, later, alpha).sha256 for alpha in (0.3, 0.6)}
    assert len({*hashes, gan.sha256}) == 3


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_transfer_needs_a_number(alpha: float, psnr: Checkpoint) -> None:
    with pytest.raises(InterpolationError, match=f"alpha is {alpha}"):
        transferred(psnr, psnr, psnr, alpha)


@pytest.mark.parametrize("place", range(3))
def test_a_transfer_between_networks_of_different_origin_is_refused(place: int, psnr: Checkpoint) -> None:
    other = checkpoint_of(with_channels_in_another_order(psnr.net), "other")
    one, two, three = (other if number == place else psnr for number in range(3))
    with pytest.raises(InterpolationError, match="were not trained from one another"):
        transferred(one, two, three, 1.0)
