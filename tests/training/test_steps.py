import copy
import io
import math
from dataclasses import replace
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from model.rrdb import ResidualDenseBlock, RRDBConfig, RRDBNet
from tests.model.examples import random_net, textured
from training import steps as training_steps
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.degrade import shrink_bicubic
from training.discriminator import new_discriminator
from training.loss_config import LayerWeights, LossConfig
from training.losses import (
    ADVERSARIAL_LOSSES,
    PIXEL_LOSSES,
    l1_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from training.muon import Muon
from training.optimisers import TrainedNetwork, new_optimisers
from training.perceptual import VGGFeatures, perceptual_loss
from training.steps import (
    DivergedError,
    Steps,
    as_network_input,
    ema_decay_at,
    new_generator,
    update_average,
)
from training.uploads import UploadConfig

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    name="tiny-x2",
    recipe="tiny",
    generator=RRDBConfig(channels=6, blocks=1, growth=4, scale=2),
    steps=100,
    batch=2,
    crop_px=8,
    optimiser=OptimiserConfig(learning_rate=3e-3, warmup_steps=2),
    ema_decay=0.9,
    validate_every=100,
)
UNET = DiscriminatorConfig(kind="unet", channels=4, optimiser=OptimiserConfig(learning_rate=1e-3, halve_at=(1, 2)))
GAN = replace(CONFIG, losses=LossConfig(l1=0.5, adversarial=0.1), discriminator=UNET)
MUON = replace(GAN, optimiser=replace(CONFIG.optimiser, method="muon"))


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use float32, because values are compared with ones computed by hand."""
    monkeypatch.setattr(training_steps, "fast_dtype", lambda device: torch.float32)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two crops of 8 x 8 px and the 16 x 16 px that they were made of."""
    high_res = torch.stack([textured(16, 16, seed), textured(16, 16, seed + 100)])
    return torch.stack([shrink_bicubic(picture, 2) for picture in high_res]), high_res


TWO_LAYERS = LayerWeights(conv4_4=1.0)
"""With conv5_4, which counts by default."""


def tiny_vgg() -> VGGFeatures:
    """Fake VGG19: a few features of a picture."""
    torch.manual_seed(0)
    shallow, deep = (net.requires_grad_(False) for net in (nn.Conv2d(3, 5, 3), nn.Conv2d(3, 4, 5, stride=2)))
    return cast(VGGFeatures, lambda pictures: [shallow(pictures), deep(pictures)])


def discriminator_of(run: Steps) -> TrainedNetwork:
    assert run.discriminator
    return run.discriminator


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}


def weights_and_optimisers(run: Steps) -> dict[str, Any]:
    """A copy of all that a skipped step may not change. Spectral norms are not among it: they are estimates."""
    state = run.state()
    del state["done"], state["skipped"], state["skipped_in_a_row"]
    if run.discriminator:
        state["discriminator"]["net"] = dict(run.discriminator.net.named_parameters())
    return copy.deepcopy(state)


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def assert_equal(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


# Initial state of a run


def test_equal_seeds_start_with_equal_weights_and_others_do_not() -> None:
    torch.manual_seed(5)
    one, same, other = (new_generator(replace(CONFIG, seed=seed)).conv_hr.weight for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_dense_blocks_start_ten_times_smaller_than_he() -> None:
    net = new_generator(replace(CONFIG, generator=RRDBConfig(channels=32, blocks=1, growth=32, scale=2)))
    he = math.sqrt(2 / (9 * 32))
    assert net.conv_hr.weight.std().item() == pytest.approx(he, rel=0.05)
    block = next(block for block in net.modules() if isinstance(block, ResidualDenseBlock))
    assert block.conv1.weight.std().item() == pytest.approx(0.1 * he, rel=0.05)
    assert all(not weight.any() for name, weight in net.named_parameters() if name.endswith("bias"))


def test_a_run_goes_on_from_a_copy_of_the_weights_it_is_given() -> None:
    start = random_net(CONFIG.generator)
    before = copy.deepcopy(start.state_dict())
    run = Steps(CONFIG, CPU, start=start)
    assert_equal(run.generator.net.state_dict(), before)
    assert_equal(run.average.state_dict(), before)
    run.take(*batch())
    assert not torch.equal(run.average.conv_hr.weight, before["conv_hr.weight"])
    assert_equal(start.state_dict(), before)


def test_a_perceptual_loss_without_vgg_is_refused() -> None:
    with pytest.raises(ValueError, match="the perceptual loss needs VGG19"):
        Steps(replace(CONFIG, losses=LossConfig(perceptual=1.0)), CPU)


def test_adam_moves_everything_with_the_configs_betas() -> None:
    net = nn.Sequential(nn.Conv2d(6, 5, 3), nn.Linear(2, 2))
    (adam,) = new_optimisers(net, OptimiserConfig(learning_rate=1e-3, betas=(0.8, 0.95)))
    assert isinstance(adam, torch.optim.Adam)
    assert [group["betas"] for group in adam.param_groups] == [(0.8, 0.95)]
    assert {id(weight) for weight in adam.param_groups[0]["params"]} == {id(weight) for weight in net.parameters()}


def test_muon_moves_the_convolutions_between_feature_maps_and_adam_the_rest() -> None:
    net = new_generator(MUON)
    muon, adam = new_optimisers(net, MUON.optimiser)
    assert isinstance(muon, Muon)
    names = {id(weight): name for name, weight in net.named_parameters()}
    by_muon = {names[id(weight)] for weight in muon.param_groups[0]["params"]}
    by_adam = {names[id(weight)] for weight in adam.param_groups[0]["params"]}
    assert by_muon | by_adam == set(names.values())
    assert by_adam == {name for name in names.values() if name.endswith("bias")} | {
        "conv_first.weight",
        "conv_last.weight",
    }


@pytest.mark.parametrize("sizes", [{"unshuffle": 2}, {"unshuffle": 4, "scale": 1}, {"inputs": 1}])
def test_adam_moves_the_first_and_last_convolution_of_every_kind_of_generator(sizes: dict[str, Any]) -> None:
    net = RRDBNet(replace(CONFIG.generator, **sizes))
    muon, _ = new_optimisers(net, MUON.optimiser)
    names = {id(weight): name for name, weight in net.named_parameters()}
    by_muon = {names[id(weight)] for weight in muon.param_groups[0]["params"]}
    convolutions = {name for name in names.values() if name.endswith("weight")}
    assert convolutions - by_muon == {"conv_first.weight", "conv_last.weight"}


@pytest.mark.parametrize("kind", ["vgg", "unet"])
def test_muon_moves_the_hidden_convolutions_of_a_discriminator(kind: Any) -> None:
    net = new_discriminator(replace(UNET, kind=kind), seed=0)
    muon, _ = new_optimisers(net, MUON.optimiser)
    convolutions = [id(weight) for weight in net.parameters() if weight.dim() == 4]
    last = 1 if kind == "unet" else 0  # the last layer of the other is linear
    assert [id(weight) for weight in muon.param_groups[0]["params"]] == convolutions[1 : len(convolutions) - last]


def test_pixels_become_floats_up_to_one() -> None:
    values = as_network_input(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1))
    assert values.dtype == torch.float32
    assert values.flatten().tolist() == pytest.approx([0, 0.2, 1])


# The average


@pytest.mark.parametrize(("step", "decay"), [(0, 1 / 10), (1, 2 / 11), (8, 9 / 18), (10**6, 0.9)])
def test_the_average_forgets_fast_at_first(step: int, decay: float) -> None:
    assert ema_decay_at(CONFIG, step) == pytest.approx(decay)


def test_one_step_of_the_average_keeps_the_share_that_decay_says() -> None:
    average, net = nn.Linear(1, 2), nn.Linear(1, 2)
    for layer, value in ((average, 1.0), (net, 3.0)):
        nn.init.constant_(layer.weight, value)
        nn.init.constant_(layer.bias, 10 * value)
    update_average(average, net, 0.9)
    torch.testing.assert_close(average.weight.detach(), torch.full((2, 1), 1.2))  # 0.9 * 1 + 0.1 * 3
    torch.testing.assert_close(average.bias.detach(), torch.full((2,), 12.0))
    assert (net.weight == 3).all()


def test_a_step_moves_the_average_towards_the_trained_weights() -> None:
    run = Steps(CONFIG, CPU)
    before = run.average.conv_hr.weight.clone()
    run.take(*batch())
    trained = run.generator.net.conv_hr.weight.detach()
    torch.testing.assert_close(run.average.conv_hr.weight, 0.1 * before + 0.9 * trained)
    assert not torch.equal(before, trained)


# The losses and gradients of one step


def test_one_step_reports_the_mean_absolute_error_before_it() -> None:
    run = Steps(CONFIG, CPU)
    low_res, high_res = batch()
    with torch.no_grad():
        expected = (run.generator.net(low_res.float() / 255) - high_res.float() / 255).abs().mean().item()
    assert run.take(low_res, high_res)["l1"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("feature_scale", [2.0, "relative"])
def test_the_generator_learns_from_the_weighted_sum_of_its_losses_and_from_nothing_else(
    feature_scale: float | Literal["relative"],
) -> None:
    vgg = tiny_vgg()
    weights = LossConfig(
        l1=0.01, perceptual=0.7, adversarial=0.3, perceptual_layers=TWO_LAYERS, feature_scale=feature_scale
    )
    run = Steps(replace(GAN, losses=weights), CPU, vgg=vgg)
    net, judge = copy.deepcopy(run.generator.net), copy.deepcopy(discriminator_of(run).net)
    reported = run.take(*batch())
    low, high = (pixels.float() / 255 for pixels in batch())
    upscaled = net(low)
    l1, perceptual = l1_loss(upscaled, high), perceptual_loss(vgg, upscaled, high, feature_scale=feature_scale)
    with cached():
        adversarial = relativistic_generator_loss(judge(high), judge(upscaled))
    (0.01 * l1 + 0.7 * perceptual + 0.3 * adversarial).backward()
    torch.testing.assert_close(gradients(run.generator.net), gradients(net), rtol=1e-4, atol=1e-6)
    by_hand = {"l1": l1.item(), "perceptual": perceptual.item(), "adversarial": adversarial.item()}
    assert {name: reported[name] for name in by_hand} == pytest.approx(by_hand, rel=1e-5)


def test_the_discriminator_learns_from_its_own_loss_alone() -> None:
    run = Steps(GAN, CPU)
    net, judge = copy.deepcopy(run.generator.net), copy.deepcopy(discriminator_of(run).net)
    reported = run.take(*batch())
    low, high = (pixels.float() / 255 for pixels in batch())
    with cached():  # one forward pass for both networks moves the spectral norms once
        loss = relativistic_discriminator_loss(judge(high), judge(net(low).detach()))
    loss.backward()
    torch.testing.assert_close(gradients(discriminator_of(run).net), gradients(judge), rtol=1e-4, atol=1e-6)
    assert reported["discriminator"] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(dict(discriminator_of(run).net.named_buffers()), dict(judge.named_buffers()))


def test_the_discriminator_judges_the_first_crops_of_a_batch_if_it_judges_a_share() -> None:
    low, high = (torch.cat(pair) for pair in zip(batch(0), batch(1), strict=True))
    other = high.clone()
    other[-2:] = 255 - high[-2:]
    share = replace(cast(DiscriminatorConfig, GAN.discriminator), share=0.5)
    config = replace(GAN, batch=4, discriminator=share, degradation=UploadConfig())
    one, two, all_of_them = (
        Steps(made, CPU).take(low, seen)
        for made, seen in ((config, high), (config, other), (replace(GAN, batch=4), other))
    )
    for name in ("adversarial", "discriminator", "discriminator_gradient"):
        assert one[name] == pytest.approx(two[name], rel=1e-6)
    assert one["discriminator_gradient"] != pytest.approx(all_of_them["discriminator_gradient"], rel=1e-3)
    assert one["l1"] != pytest.approx(two["l1"], rel=1e-3)


FLAT = replace(
    CONFIG,
    generator=replace(CONFIG.generator, padding_mode="replicate"),
    losses=LossConfig(l1=0.0, flat=1.0),
    optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=2),
    accumulate=2,
)


def test_flat_colours_are_learned_from_their_loss_alone_with_other_colours_in_each_step() -> None:
    run = Steps(FLAT, CPU)
    colours = torch.rand(3, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    pictures, upscaled = colours.expand(3, 3, 6, 6), colours.expand(3, 3, 12, 12)
    with torch.no_grad():
        before = l1_loss(run.generator.net(pictures), upscaled)
    losses = [run.take(*batch())["flat"] for _ in range(200)]
    with torch.no_grad():
        after = l1_loss(run.generator.net(pictures), upscaled)
    assert after < 0.3 * before
    assert len(set(losses)) == len(losses)


def test_the_colours_of_the_flat_loss_follow_from_the_seed_and_the_step() -> None:
    values = [
        Steps(config, CPU).take(*batch())["flat"] for config in (FLAT, FLAT, replace(FLAT, losses=LossConfig(flat=5)))
    ]
    assert values[0] == values[1] == values[2] > 0


def test_a_loss_of_weight_zero_is_not_computed() -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError

    run = Steps(CONFIG, CPU, vgg=cast(VGGFeatures, never))
    assert run.take(*batch()).keys() == {"l1", "generator_gradient"}


def test_both_networks_take_the_scheduled_learning_rates() -> None:
    run = Steps(MUON, CPU)
    for step in range(4):
        run.take(*batch(step))
        rates = [[group["lr"] for one in side.optimisers for group in one.param_groups] for side in both(run)]
        assert rates == [[MUON.optimiser.rate_at(step, 100)] * 2, [UNET.optimiser.rate_at(step, 100)]]
    assert UNET.optimiser.rate_at(3, 100) == 1e-3 / 4


def both(run: Steps) -> tuple[TrainedNetwork, TrainedNetwork]:
    return run.generator, discriminator_of(run)


def test_the_discriminator_learns_to_tell_the_pictures_apart() -> None:
    still = OptimiserConfig(learning_rate=1e-9)
    run = Steps(
        replace(GAN, optimiser=still, discriminator=replace(UNET, optimiser=OptimiserConfig(learning_rate=1e-2))), CPU
    )
    losses = [run.take(*batch())["discriminator"] for _ in range(40)]
    assert losses[0] == pytest.approx(2 * math.log(2), abs=0.1)  # untrained
    assert losses[-1] < 0.5 * losses[0]


def test_bfloat16_moves_weights_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_steps, "fast_dtype", lambda device: torch.bfloat16)
    run, exact = Steps(MUON, CPU), Steps(MUON, CPU)
    exact._dtype = torch.float32
    losses, exact_losses = run.take(*batch()), exact.take(*batch())
    assert losses != exact_losses
    assert losses == pytest.approx(exact_losses, rel=0.05)
    for side in both(run):
        assert {weight.dtype for weight in side.net.state_dict().values()} == {torch.float32}


def test_a_step_reports_the_norms_of_both_networks_gradients() -> None:
    run = Steps(GAN, CPU)
    values = run.take(*batch())
    for name, side in zip(("generator", "discriminator"), both(run), strict=True):
        norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients(side.net).values()))
        assert values[f"{name}_gradient"] == pytest.approx(norm, rel=1e-5)


# Less memory, and GPUs without bfloat16


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_makes_the_same_update(parts: int) -> None:
    pictures = [torch.cat(pair) for pair in zip(batch(0), batch(1), strict=True)]
    whole = Steps(replace(CONFIG, batch=4), CPU)
    in_parts = Steps(replace(CONFIG, batch=4, accumulate=parts), CPU)
    for _ in range(2):
        assert in_parts.take(*pictures) == pytest.approx(whole.take(*pictures), rel=1e-4)
    torch.testing.assert_close(in_parts.state()["average"], whole.state()["average"], rtol=1e-4, atol=1e-5)


def test_a_share_of_the_batch_that_cannot_be_cut_evenly_counts_by_its_pictures() -> None:
    pictures = [torch.cat(pair)[:3] for pair in zip(batch(0), batch(1), strict=True)]  # of a batch of 4
    whole, in_parts = Steps(replace(CONFIG, batch=4), CPU), Steps(replace(CONFIG, batch=4, accumulate=2), CPU)
    assert in_parts.take(*pictures) == pytest.approx(whole.take(*pictures), rel=1e-5)


def test_a_batch_in_parts_trains_both_networks() -> None:
    run = Steps(replace(GAN, accumulate=2), CPU)
    before = [dict(side.net.state_dict()) for side in both(run)]
    before = copy.deepcopy(before)
    values = run.take(*batch())
    assert all(map(math.isfinite, values.values()))
    for side, weights in zip(both(run), before, strict=True):
        assert any(not torch.equal(weight, weights[name]) for name, weight in side.net.state_dict().items())


@pytest.mark.parametrize("config", [CONFIG, GAN], ids=["psnr", "gan"])
def test_activation_checkpointing_changes_nothing_but_the_memory(config: TrainingConfig) -> None:
    whole, checkpointed = Steps(config, CPU), Steps(replace(config, checkpointing=True), CPU)
    for step in range(2):
        assert whole.take(*batch(step)) == checkpointed.take(*batch(step))
    assert_equal(checkpointed.state(), whole.state())


def test_activation_checkpointing_computes_each_block_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = ResidualDenseBlock.forward

    def counted(block: ResidualDenseBlock, x: Tensor) -> Tensor:
        calls.append(1)
        return original(block, x)

    monkeypatch.setattr(ResidualDenseBlock, "forward", counted)
    Steps(replace(CONFIG, checkpointing=True), CPU).take(*batch())
    assert len(calls) == 2 * 3 * CONFIG.generator.blocks


def in_float16(monkeypatch: pytest.MonkeyPatch) -> Steps:
    monkeypatch.setattr(training_steps, "fast_dtype", lambda device: torch.float16)
    return Steps(GAN, CPU)


def test_float16_makes_nearly_the_update_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Steps(GAN, CPU)
    run = in_float16(monkeypatch)
    assert run.loss_scale.value > 1
    run.loss_scale.value = 2.0**8  # this batch does not overflow with it
    values, expected = run.take(*batch()), exact.take(*batch())
    assert values == pytest.approx(expected, rel=0.05)
    for side, other in zip(both(run), both(exact), strict=True):
        for name, gradient in gradients(other.net).items():
            torch.testing.assert_close(gradients(side.net)[name], gradient, rtol=0.1, atol=0.01)
        assert {weight.dtype for weight in side.net.state_dict().values()} == {torch.float32}


def test_an_overflow_in_float16_halves_the_scale_and_does_not_count_towards_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = in_float16(monkeypatch)
    first = run.loss_scale.value
    before = weights_and_optimisers(run)
    with monkeypatch.context() as patch:
        patch.setitem(PIXEL_LOSSES, "l1", infinite)
        run.take(*batch())
    after = weights_and_optimisers(run)
    assert (run.skipped, run.skipped_in_a_row, run.loss_scale.value) == (1, 0, first / 2)
    del before["loss_scale"], after["loss_scale"]
    assert_equal(after, before)


def test_a_gpu_without_bfloat16_takes_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainedNetwork, "__init__", lambda self, net, config, device: setattr(self, "net", net))
    run = Steps(CONFIG, torch.device("cuda"))  # nothing is moved there
    assert run._dtype is torch.float16
    assert run.loss_scale.needed


# Steps that are skipped


def infinite(one: Tensor, other: Tensor) -> Tensor:
    return math.inf * (one.float().abs().mean() + other.float().abs().mean())


def with_an_infinite_gradient(upscaled: Tensor, high_res: Tensor) -> Tensor:
    return l1_loss(upscaled, high_res) + (0 * upscaled).abs().sqrt().sum()


@pytest.mark.parametrize(
    ("table", "name", "broken"),
    [
        (PIXEL_LOSSES, "l1", infinite),
        (PIXEL_LOSSES, "l1", with_an_infinite_gradient),
        (ADVERSARIAL_LOSSES, "relativistic", replace(ADVERSARIAL_LOSSES["relativistic"], generator=infinite)),
        (ADVERSARIAL_LOSSES, "relativistic", replace(ADVERSARIAL_LOSSES["relativistic"], discriminator=infinite)),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    table: dict[str, object], name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Steps(MUON, CPU)
    run.take(*batch(0))
    before = weights_and_optimisers(run)
    monkeypatch.setitem(table, name, broken)
    run.take(*batch(1))
    assert_equal(weights_and_optimisers(run), before)
    assert (run.done, run.skipped, run.skipped_in_a_row) == (2, 1, 1)


def test_a_skipped_step_reports_that_its_loss_was_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PIXEL_LOSSES, "l1", infinite)
    assert Steps(CONFIG, CPU).take(*batch())["l1"] == math.inf


def test_the_step_after_a_skipped_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Steps(GAN, CPU)
    with monkeypatch.context() as patch:
        patch.setitem(PIXEL_LOSSES, "l1", infinite)
        run.take(*batch(0))
    before = weights_and_optimisers(run)
    run.take(*batch(1))
    after = weights_and_optimisers(run)
    assert not torch.equal(after["generator"]["net"]["conv_hr.weight"], before["generator"]["net"]["conv_hr.weight"])
    assert all(tensor.isfinite().all() for tensor in after["generator"]["net"].values())
    assert (run.done, run.skipped, run.skipped_in_a_row) == (2, 1, 0)


def test_ten_skipped_steps_in_a_row_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Steps(CONFIG, CPU)
    run.take(*batch())
    monkeypatch.setitem(PIXEL_LOSSES, "l1", infinite)
    for _ in range(9):
        run.take(*batch())
    with pytest.raises(
        DivergedError, match=r"^steps 2 to 11 gave losses .* not finite.*--out NEW --start OLD/state.pt --set"
    ):
        run.take(*batch())


def test_skipped_steps_that_are_not_in_a_row_do_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Steps(CONFIG, CPU)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setitem(PIXEL_LOSSES, "l1", infinite)
            for _ in range(9):
                run.take(*batch())
        run.take(*batch())
    assert (run.skipped, run.skipped_in_a_row) == (18, 0)


# Going on


@pytest.mark.parametrize("config", [CONFIG, MUON, replace(GAN, optimiser=UNET.optimiser)])
def test_a_restored_run_goes_on_bit_for_bit(config: TrainingConfig) -> None:
    whole = Steps(config, CPU)
    for step in range(2):
        whole.take(*batch(step))
    state = saved_and_loaded(whole.state())
    resumed = Steps(replace(config, seed=9), CPU)  # other weights, which the state replaces
    resumed.restore(state)
    for step in range(2, 4):
        assert whole.take(*batch(step)) == resumed.take(*batch(step))
    assert_equal(resumed.state(), whole.state())


def test_the_count_of_skipped_steps_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    run, resumed = Steps(CONFIG, CPU), Steps(CONFIG, CPU)
    monkeypatch.setitem(PIXEL_LOSSES, "l1", infinite)
    for _ in range(9):
        run.take(*batch())
    resumed.restore(saved_and_loaded(run.state()))
    assert (resumed.done, resumed.skipped) == (9, 9)
    with pytest.raises(DivergedError, match="steps 1 to 10 "):
        resumed.take(*batch())


def test_equal_runs_give_equal_weights() -> None:
    one, other = Steps(GAN, CPU), Steps(GAN, CPU)
    torch.manual_seed(1)  # has no effect
    for run in (one, other):
        run.take(*batch(0))
        run.take(*batch(1))
    assert_equal(one.state(), other.state())


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(low: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable")

    plain = Steps(CONFIG, CPU)
    expected = [plain.take(*batch(step)) for step in range(2)]
    monkeypatch.setattr(torch, "compile", lambda net: no_compiler)
    run = Steps(CONFIG, CPU, compiled=True)
    assert [run.take(*batch(step)) for step in range(2)] == expected
    assert caplog.text.count("Failed to find C compiler") == 1


def test_memory_that_does_not_suffice_is_not_blamed_on_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(low: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda net: out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        Steps(CONFIG, CPU, compiled=True).take(*batch())


def test_the_host_waits_once_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    for name in ("tolist", "item", "__bool__", "__float__", "cpu"):
        original = getattr(Tensor, name)

        def waiting(tensor: Tensor, name: str = name, original: Any = original) -> Any:
            waits.append(name)
            return original(tensor)

        monkeypatch.setattr(Tensor, name, waiting)
    run = Steps(CONFIG, CPU)
    waits.clear()
    run.take(*batch())
    assert waits == ["tolist"]
