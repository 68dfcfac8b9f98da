"""A teacher upscales crops as the service does, and is never used by mistake."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from model.errors import WeightsError
from model.files.checkpoint import Card, reference_output, write_checkpoint
from model.rrdb import PaddingMode, RRDBConfig
from tests.model.examples import TINY, random_net, textured
from tests.training.tiny_runs import PSNR
from training.errors import ConfigError
from training.loss_config import LossConfig
from training.teacher import Teacher, load_teacher

CPU = torch.device("cpu")
LEARNING = replace(PSNR, losses=LossConfig(l1=0.5, teacher=0.5))


def weight_file(folder: Path, config: RRDBConfig) -> Path:
    path = folder / "large.safetensors"
    card = Card(name="large", recipe="none", steps=0, data="none", metrics={}, created="2026-01-01")
    write_checkpoint(path, random_net(config, seed=2), card, golden_input=textured(8, 9))
    return path


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, padding_mode="replicate"), replace(TINY, scale=2, unshuffle=2), replace(TINY, inputs=1)],
)
def test_a_teacher_upscales_as_the_service_does(config: RRDBConfig) -> None:
    net = random_net(config)
    crops = torch.stack([textured(7, 9, seed) for seed in range(2)])
    upscaled = Teacher(net, CPU)(crops.float() / 255)
    assert upscaled.min() >= 0
    assert upscaled.max() <= 1
    for one, crop in zip(upscaled, crops, strict=True):
        assert ((255 * one).round() - reference_output(net, crop).float()).abs().max() <= 1


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_a_teacher_computes_as_the_service_does_within_autocast(padding_mode: PaddingMode) -> None:
    net = random_net(RRDBConfig(channels=32, blocks=2, growth=16, scale=4, padding_mode=padding_mode))
    low = torch.stack([textured(9, 12, seed) for seed in range(2)]).float() / 255
    pictures = [(255 * one).round().to(torch.uint8) for one in low]
    exact = torch.stack([reference_output(net, picture) for picture in pictures]).float() / 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = Teacher(net, CPU)(low)
    assert made.dtype is torch.float32
    assert (made - exact).abs().max() < 0.02


def test_a_teacher_of_another_architecture_computes_in_float32_within_autocast() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    teacher, low = Teacher(net, CPU), textured(9, 12)[None].float() / 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = teacher(low)
    torch.testing.assert_close(made, teacher(low), rtol=0, atol=0)


def test_a_teacher_whose_features_exceed_float16_answers_in_float32() -> None:
    net = random_net(RRDBConfig(channels=32, blocks=1, growth=16, scale=4)).requires_grad_(False)
    net.conv_first.weight.mul_(1e7)
    net.conv_last.weight.mul_(1e-7)
    answer = Teacher(net, CPU)(textured(9, 9)[None].float() / 255)
    assert answer.isfinite().all()
    assert answer.std() > 0


def test_an_ensemble_answers_alike_however_a_crop_is_turned() -> None:
    net = random_net()
    low = textured(9, 9)[None].float() / 255
    answers = [Teacher(net, CPU, ensemble=True)(crop) for crop in (low, low.rot90(1, (2, 3)), low.flip(3))]
    torch.testing.assert_close(answers[1], answers[0].rot90(1, (2, 3)))
    torch.testing.assert_close(answers[2], answers[0].flip(3))
    single = [Teacher(net, CPU)(low.rot90(quarters, (2, 3))).rot90(-quarters, (2, 3)) for quarters in range(4)]
    assert (answers[0] - torch.stack(single).mean(0)).abs().max() < (answers[0] - single[0]).abs().max()


def test_an_ensemble_needs_the_loss_of_a_teacher() -> None:
    with pytest.raises(ConfigError, match="teacher_ensemble is true"):
        LossConfig(teacher_ensemble=True)


def test_nothing_of_a_teacher_is_trained() -> None:
    net = random_net().requires_grad_(True)
    assert not Teacher(net, CPU)(torch.rand(1, 3, 4, 4)).requires_grad
    assert not any(weight.requires_grad for weight in net.parameters())


def test_a_teacher_is_read_from_a_weight_file_and_named(tmp_path: Path) -> None:
    path = weight_file(tmp_path, replace(TINY, scale=2, blocks=2))
    teacher = load_teacher(path, LEARNING, CPU)
    assert teacher
    assert teacher.name.startswith("large@")
    assert teacher(torch.rand(1, 3, 4, 5)).shape == (1, 3, 8, 10)


def test_a_run_without_a_teacher_has_none() -> None:
    assert load_teacher(None, PSNR, CPU) is None


def test_a_teacher_needs_a_weight_and_a_weight_a_teacher(tmp_path: Path) -> None:
    path = weight_file(tmp_path, replace(TINY, scale=2))
    with pytest.raises(ConfigError, match=r"--teacher is .*large.* losses\.teacher, .*, is 0\.0; .* both or neither"):
        load_teacher(path, PSNR, CPU)
    with pytest.raises(ConfigError, match=r"--teacher is None and losses\.teacher, .*, is 0\.5"):
        load_teacher(None, LEARNING, CPU)


def test_published_weights_of_x3_teach_a_run_of_that_scale(tmp_path: Path) -> None:
    net = random_net(replace(TINY, scale=3))
    torch.save(net.state_dict(), tmp_path / "x3.pth")
    teacher = load_teacher(tmp_path / "x3.pth", replace(LEARNING, generator=replace(TINY, scale=3)), CPU)
    assert teacher is not None
    crop = textured(7, 9)
    made = (255 * teacher(crop[None].float() / 255)[0]).round()
    assert (made - reference_output(net, crop).float()).abs().max() <= 1


def test_a_teacher_of_another_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"large.* enlarges by 4; tiny_psnr_x2 trains a generator for 2"):
        load_teacher(weight_file(tmp_path, TINY), LEARNING, CPU)


def test_a_file_that_holds_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="broken"):
        load_teacher(path, LEARNING, CPU)
