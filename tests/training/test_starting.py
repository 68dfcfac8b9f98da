"""Initial weights of runs: generators of another scale, and discriminators under other names."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from model.errors import WeightsError
from model.files.reading import read
from tests.model.examples import TINY, random_net
from tests.training.tiny_runs import PSNR
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.discriminator import new_discriminator
from training.errors import ConfigError
from training.starting import read_discriminator, read_generator, start_from

OPTIMISER = OptimiserConfig(learning_rate=1e-3)
UNET = DiscriminatorConfig(kind="unet", channels=4, optimiser=OPTIMISER)
VGG = DiscriminatorConfig(kind="vgg", channels=2, optimiser=OPTIMISER)


def published(path: Path, scale: int) -> Path:
    torch.save({"params_ema": random_net(replace(TINY, scale=scale)).state_dict()}, path)
    return path


def config_for(scale: int) -> TrainingConfig:
    return replace(PSNR, generator=replace(TINY, scale=scale))


@pytest.mark.parametrize(("theirs", "ours"), [(4, 2), (2, 4), (4, 3), (4, 8), (2, 1)])
def test_a_start_of_another_scale_lends_what_it_has(theirs: int, ours: int, tmp_path: Path) -> None:
    path = published(tmp_path / "start.pth", theirs)
    lines: list[str] = []
    start = start_from(read(path), path, config_for(ours), rescale=True, report=lines.append)
    assert start.net.config.scale == ours
    known = random_net(replace(TINY, scale=theirs)).state_dict()
    for name, weight in start.net.state_dict().items():
        same = known.get(name, known["conv_up1." + name.partition(".")[2]] if name.startswith("conv_up") else None)
        assert same is not None
        assert torch.equal(weight, same)
    assert lines[0].startswith(f"the start enlarges by {theirs} and this run by {ours}: conv_up")


def test_a_start_of_another_scale_is_refused_unless_requested(tmp_path: Path) -> None:
    path = published(tmp_path / "start.pth", 4)
    with pytest.raises(ConfigError, match=r"start\.pth is a network of .*scale=4.*needs .*scale=2"):
        start_from(read(path), path, config_for(2), rescale=False, report=print)


def test_weights_of_x3_are_read_as_such_where_x3_is_wanted(tmp_path: Path) -> None:
    path = published(tmp_path / "start.pth", 3)
    assert read_generator(path, 3).net.config.scale == 3
    assert read_generator(path, None).net.config.scale == 2
    assert read_generator(published(tmp_path / "x4.pth", 4), 3).net.config.scale == 4


def seen_by(net: nn.Module, kind: str) -> Tensor:
    side = 128 if kind == "vgg" else 16
    made: Tensor = net.eval()(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)))
    return made


@pytest.mark.parametrize("config", [UNET, VGG], ids=["unet", "vgg"])
def test_the_discriminator_of_a_runs_state_is_read(config: DiscriminatorConfig, tmp_path: Path) -> None:
    net = new_discriminator(config, seed=5)
    steps = {"generator": {"net": random_net().state_dict()}, "discriminator": {"net": net.state_dict()}}
    torch.save({"config": "{}", "steps": steps}, tmp_path / "state.pt")
    torch.testing.assert_close(
        seen_by(read_discriminator(tmp_path / "state.pt", config), config.kind), seen_by(net, config.kind)
    )


def test_the_unet_of_real_esrgan_is_read_under_its_own_names(tmp_path: Path) -> None:
    net = new_discriminator(UNET, seed=5)
    layers = [nn.Conv2d(3, 4, 3)]
    layers += [nn.Conv2d(a, b, 4, bias=False) for a, b in ((4, 8), (8, 16), (16, 32))]
    layers += [nn.Conv2d(a, b, 3, bias=False) for a, b in ((32, 16), (16, 8), (8, 4), (4, 4), (4, 4))]
    theirs = nn.Module()
    for number, layer in enumerate([*layers, nn.Conv2d(4, 1, 3)]):
        hidden = 0 < number < 9
        theirs.add_module(f"conv{number}", spectral_norm(layer) if hidden else layer)
    names = [name for name in theirs.state_dict() if not name.endswith(("_u", "_v"))]
    weights = dict(zip(names, (weight.detach() for weight in net.parameters()), strict=True))
    estimates = [name for name in theirs.state_dict() if name.endswith(("_u", "_v"))]
    weights |= dict(zip(estimates, net.buffers(), strict=True))
    torch.save({"params": OrderedDict((name, weights[name]) for name in theirs.state_dict())}, tmp_path / "netD.pth")
    torch.testing.assert_close(seen_by(read_discriminator(tmp_path / "netD.pth", UNET), "unet"), seen_by(net, "unet"))


def test_the_vgg_discriminator_of_the_authors_is_read_without_its_running_means(tmp_path: Path) -> None:
    net = new_discriminator(VGG, seed=5)
    theirs: dict[str, Tensor] = {}
    for name, weight in net.named_parameters():
        theirs[f"net.{name}"] = weight.detach()
        if name.endswith("bias") and weight.dim() == 1:
            theirs |= {f"net.{name}.{end}": torch.zeros(3) for end in ("running_mean", "running_var")}
            theirs[f"net.{name}.num_batches_tracked"] = torch.tensor(7)
    torch.save(theirs, tmp_path / "netD.pth")
    torch.testing.assert_close(seen_by(read_discriminator(tmp_path / "netD.pth", VGG), "vgg"), seen_by(net, "vgg"))


def test_a_discriminator_of_another_width_or_kind_is_refused_with_the_tensor_that_differs(tmp_path: Path) -> None:
    torch.save(new_discriminator(replace(UNET, channels=8), seed=0).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(WeightsError, match=r"wide\.pth holds no unet discriminator of 4 channels: first\.weight would"):
        read_discriminator(tmp_path / "wide.pth", UNET)
    torch.save(new_discriminator(VGG, seed=0).state_dict(), tmp_path / "vgg.pth")
    with pytest.raises(WeightsError, match=r"vgg\.pth holds no unet discriminator"):
        read_discriminator(tmp_path / "vgg.pth", UNET)


def test_a_generator_is_no_discriminator(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no vgg discriminator"):
        read_discriminator(published(tmp_path / "generator.pth", 4), VGG)
