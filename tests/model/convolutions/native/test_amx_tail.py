"""The tail of a generator on AMX is bit-identical to its single convolutions, in bands and pieces of any height."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.convolutions.library import library_convolution
from model.convolutions.native import amx, amx_tail
from model.convolutions.native.amx_convolver import AmxConvolver
from model.convolutions.native.amx_tail import AmxTailStage
from model.pipeline import stages_of
from model.rrdb import PaddingMode, RRDBConfig, RRDBNet
from model.stage import Stage
from model.stages import ConvolutionStage
from model.workspace import Workspace

pytestmark = pytest.mark.skipif(amx.compiled() is None, reason="nothing is compiled")

WAYS = [True, pytest.param(False, marks=pytest.mark.skipif(not amx.available(), reason="no AMX here"))]
"""In plain C or on AMX."""


def network(scale: int, padding_mode: PaddingMode = "replicate", channels: int = 8) -> RRDBNet:
    torch.manual_seed(0)
    config = RRDBConfig(channels=channels, blocks=1, growth=4, scale=scale, padding_mode=padding_mode)
    net = RRDBNet(config).requires_grad_(False).bfloat16()
    net.conv_first.float()
    net.conv_last.float()
    return net


def tail_stage(net: RRDBNet, *, portable: bool = True) -> Stage:
    stage = AmxConvolver(library_convolution, portable=portable).tail_stage(net, Workspace(), lag=0)
    assert isinstance(stage, AmxTailStage)
    return stage


class OneByOne(AmxConvolver):
    def tail_stage(self, net: RRDBNet, workspace: Workspace, lag: int) -> None:
        return None


def one_by_one(net: RRDBNet, rows: Tensor) -> Tensor:
    """Run each convolution by itself, in plain C, on the whole picture."""
    stages = stages_of(net, Workspace(), OneByOne(library_convolution, portable=True))
    tail = stages[-len(net.config.enlargements) - 2 :]
    assert all(isinstance(stage, ConvolutionStage) for stage in tail)
    for stage in tail:
        rows = stage(rows, True)
    return rows


def run(stage: Stage, bands: Sequence[Tensor]) -> Tensor:
    return torch.cat([stage(band, number == len(bands) - 1) for number, band in enumerate(bands)], dim=2)


def features(planes: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randn(planes, height, width, channels).permute(0, 3, 1, 2)


@torch.inference_mode()
@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize(
    ("scale", "padding_mode"), [(1, "zeros"), (2, "replicate"), (3, "replicate"), (4, "zeros"), (4, "replicate")]
)
@settings(max_examples=4, deadline=None)
@given(
    planes=st.integers(1, 2),
    heights=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    width=st.sampled_from([1, 2, 11]),
    piece_px=st.sampled_from([1, 50, 400]),
)
def test_the_tail_has_the_bits_of_its_convolutions(
    portable: bool, scale: int, padding_mode: PaddingMode, planes: int, heights: list[int], width: int, piece_px: int
) -> None:
    net = network(scale, padding_mode)
    rows = features(planes, 8, sum(heights), width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amx_tail, "PIECE_PX", piece_px)  # smaller and larger pieces
        made = run(tail_stage(net, portable=portable), rows.split(heights, dim=2))
    assert torch.equal(made, one_by_one(net, rows))


@torch.inference_mode()
def test_many_channels_and_a_factor_of_eight_fit_too() -> None:
    net, rows = network(8, channels=36), features(1, 36, 3, 3)
    assert torch.equal(run(tail_stage(net), rows.split(1, dim=2)), one_by_one(net, rows))


def test_a_processor_without_the_unit_has_no_such_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    assert AmxConvolver(library_convolution).tail_stage(network(4), Workspace(), lag=0) is None


def test_networks_of_another_format_have_none_either() -> None:
    assert AmxConvolver(library_convolution, portable=True).tail_stage(network(4).float(), Workspace(), lag=0) is None


def test_a_network_uses_the_stage_unless_its_picture_wraps() -> None:
    net, convolve = network(4), AmxConvolver(library_convolution, portable=True)
    *_, last = stages_of(net, Workspace(), convolve)
    assert isinstance(last, AmxTailStage)
    assert last.lag == stages_of(net, Workspace(), OneByOne(library_convolution))[-4].lag
    *_, last = stages_of(net, Workspace(), convolve, wraps=True)
    assert not isinstance(last, AmxTailStage)
