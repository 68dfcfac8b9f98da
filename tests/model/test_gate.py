"""The check of unknown networks against bicubic interpolation."""

from pathlib import Path
from typing import cast

import pytest
import torch

from app.settings import SHIPPED_MODELS
from model.files.checkpoint import Checkpoint, read_checkpoint, reference_output
from model.gate import refuse_far_from_bicubic
from model.golden import SelfTestError
from model.reliable import ReliableUpscaler
from model.transfer import Pixels

MAX_LOSS_DB = 10.0


@pytest.fixture(params=["compact-psnr-x4", "compact-esrgan-x4", "compact-real-psnr-x4", "compact-real-esrgan-x4"])
def shipped(request: pytest.FixtureRequest) -> Path:
    return SHIPPED_MODELS / f"{request.param}.safetensors"


def upscaler_of(checkpoint: Checkpoint) -> ReliableUpscaler:
    """The network itself, with its own golden output."""
    golden = reference_output(checkpoint.net, checkpoint.golden_input)
    return ReliableUpscaler(
        Checkpoint(
            net=checkpoint.net,
            card=checkpoint.card,
            sha256=checkpoint.sha256,
            golden_input=checkpoint.golden_input,
            golden_output=golden,
        )
    )


def test_the_shipped_networks_pass(shipped: Path) -> None:
    refuse_far_from_bicubic(upscaler_of(read_checkpoint(shipped)), MAX_LOSS_DB)


def test_swapped_colours_do_not_pass(shipped: Path) -> None:
    checkpoint = read_checkpoint(shipped)
    with torch.no_grad():
        last = checkpoint.net.conv_last
        last.weight.copy_(last.weight.flip(0))
    with pytest.raises(SelfTestError, match=r"1\d\.\d dB .*ESRGAN_MAX_LOSS_DB"):
        refuse_far_from_bicubic(upscaler_of(checkpoint), MAX_LOSS_DB)


def test_a_damaged_network_does_not_pass_unless_all_may(shipped: Path) -> None:
    checkpoint = read_checkpoint(shipped)
    with torch.no_grad():
        checkpoint.net.conv_hr.weight.copy_(torch.randn_like(checkpoint.net.conv_hr.weight) * 0.05)
    upscaler = upscaler_of(checkpoint)
    with pytest.raises(SelfTestError):
        refuse_far_from_bicubic(upscaler, MAX_LOSS_DB)
    refuse_far_from_bicubic(upscaler, 1000.0)


class Repeated:
    """Upscales by repeating pixels; all that the check calls of an upscaler."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def upscale(self, picture: Pixels) -> Pixels:
        return picture.repeat(self.scale, axis=1).repeat(self.scale, axis=2)


@pytest.mark.parametrize("scale", [1, 3, 5, 7, 16])
def test_networks_of_every_scale_are_compared(scale: int) -> None:
    refuse_far_from_bicubic(cast(ReliableUpscaler, Repeated(scale)), MAX_LOSS_DB)
