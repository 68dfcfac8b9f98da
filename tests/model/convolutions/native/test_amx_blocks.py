"""RRDBs on AMX are bit-identical to their single convolutions, in bands of any height."""

from collections.abc import Iterable, Iterator, Sequence

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.convolutions.library import library_convolution
from model.convolutions.native import amx, amx_blocks
from model.convolutions.native.amx_blocks import AmxBlockStage
from model.convolutions.native.amx_convolver import AmxConvolver
from model.pipeline import stages_of
from model.rrdb import RRDB, PaddingMode, RRDBConfig, RRDBNet
from model.stage import Stage, run_next
from model.stages import BLOCK_LAG, BlockStage, DenseStage
from model.workspace import SkipPath, Workspace

pytestmark = pytest.mark.skipif(amx.compiled() is None, reason="nothing is compiled")

WAYS = [True, pytest.param(False, marks=pytest.mark.skipif(not amx.available(), reason="no AMX here"))]
"""In plain C or on AMX."""


def random_block(channels: int, growth: int, padding_mode: PaddingMode, seed: int = 0) -> RRDB:
    torch.manual_seed(seed)
    return RRDB(channels, growth, padding_mode).requires_grad_(False).bfloat16()


def block_stage(block: RRDB, *, portable: bool) -> Stage:
    workspace = Workspace()
    workspace.buffer(1, 1, 1, 1_000_000, torch.empty(0, dtype=torch.bfloat16)).fill_(torch.nan)  # as memory may be
    stage = AmxConvolver(library_convolution, portable=portable).block_stage(block, workspace, lag=0)
    assert isinstance(stage, AmxBlockStage)
    return stage


def one_by_one(block: RRDB) -> Stage:
    """Return a stage that runs each convolution by itself, in plain C."""
    convolve, workspace = AmxConvolver(library_convolution, portable=True), Workspace()
    dense = [
        DenseStage(each, workspace, convolve, lag=0, owned=number > 0) for number, each in enumerate(block.dense_blocks)
    ]
    return BlockStage(dense, SkipPath(BLOCK_LAG))


def run(stage: Stage, bands: Iterable[Tensor]) -> Tensor:
    bands = list(bands)
    return torch.cat([stage(band, number == len(bands) - 1) for number, band in enumerate(bands)], dim=2)


def features(planes: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randn(planes, height, width, channels).permute(0, 3, 1, 2)


@torch.inference_mode()
@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@settings(max_examples=4, deadline=None)
@given(
    planes=st.integers(1, 2),
    channels=st.sampled_from([(8, 4), (12, 6), (18, 16)]),
    heights=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    width=st.sampled_from([1, 2, 19]),
    piece=st.sampled_from([1, 4, 16]),
)
def test_a_block_is_that_of_its_convolutions_whatever_its_bands_are(
    portable: bool,
    padding_mode: PaddingMode,
    planes: int,
    channels: tuple[int, int],
    heights: list[int],
    width: int,
    piece: int,
) -> None:
    block = random_block(*channels, padding_mode)
    rows = features(planes, channels[0], sum(heights), width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amx_blocks, "PIECE_ROWS", piece)
        made = run(block_stage(block, portable=portable), rows.split(heights, dim=2))
    once = run(one_by_one(block), [rows])
    assert made.shape == rows.shape
    # The last skip is added with one rounding less.
    torch.testing.assert_close(made, once, rtol=0, atol=2e-6)
    torch.testing.assert_close(made, run(block_stage(block, portable=True), [rows]), rtol=0, atol=0)


@torch.inference_mode()
@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_columns_are_divided_among_threads(portable: bool, padding_mode: PaddingMode) -> None:
    block = random_block(12, 6, padding_mode)
    rows = features(1, 12, 21, 2 * 64 + 2)
    made = run(block_stage(block, portable=portable), rows.split([17, 4], dim=2))
    torch.testing.assert_close(made, run(one_by_one(block), [rows]), rtol=0, atol=2e-6)


@torch.inference_mode()
@pytest.mark.parametrize("portable", WAYS)
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_any_number_of_threads_makes_the_same_bits(portable: bool, padding_mode: PaddingMode) -> None:
    trunk = [random_block(8, 4, padding_mode, seed) for seed in range(2)]
    rows = features(1, 8, 35, 2 * 64 + 2)
    expected = one_block_after_another(trunk, rows)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 7):  # seven share the cores of a small machine
            torch.set_num_threads(threads)
            made = torch.cat([*joined(trunk, rows.split([17, 15, 3], dim=2), portable=portable)], dim=2)
            assert torch.equal(made, expected), threads
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
@pytest.mark.parametrize("portable", WAYS)
@settings(max_examples=6, deadline=None)
@given(blocks=st.integers(2, 5), heights=st.lists(st.integers(1, 25), min_size=1, max_size=3))
@example(blocks=5, heights=[100])  # all blocks in a single call that is the last one
def test_blocks_in_one_call_are_those_one_by_one(portable: bool, blocks: int, heights: list[int]) -> None:
    trunk = [random_block(8, 4, "replicate", seed) for seed in range(blocks)]
    rows = features(2, 8, sum(heights), 5)
    made = torch.cat([*joined(trunk, rows.split(heights, dim=2), portable=portable)], dim=2)
    assert torch.equal(made, one_block_after_another(trunk, rows))


def one_block_after_another(trunk: list[RRDB], rows: Tensor) -> Tensor:
    """Run blocks over whole pictures, in plain C, on one thread or two."""
    for block in trunk:
        rows = run(block_stage(block, portable=True), [rows])
    return rows


def joined(trunk: list[RRDB], bands: Sequence[Tensor], *, portable: bool) -> Iterator[Tensor]:
    """Run blocks as a stream does, and cut off the released rows."""
    stages = [block_stage(block, portable=portable) for block in trunk]
    calls: list[tuple[Sequence[Stage], Tensor, bool]]
    calls = [(stages, band, number == len(bands) - 1) for number, band in enumerate(bands)]
    while calls:
        following, rows, last = calls.pop(0)
        if not following:
            yield rows
            continue
        made, others = run_next(following, rows, last)
        parts = [part for part in made.split(7, dim=2) if part.shape[2]]
        calls[:0] = [(others, part, last and part is parts[-1]) for part in parts]


@torch.inference_mode()
def test_rows_that_are_not_in_order_are_taken_too() -> None:
    block, rows = random_block(8, 4, "zeros"), features(2, 8, 20, 10)
    expected = run(block_stage(block, portable=True), [rows])
    assert torch.equal(run(block_stage(block, portable=True), [rows.contiguous()]), expected)


def test_a_processor_without_the_unit_has_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    assert AmxConvolver(library_convolution).block_stage(random_block(8, 4, "zeros"), Workspace(), lag=0) is None


@pytest.mark.parametrize(("channels", "dtype"), [((9, 5), torch.bfloat16), ((8, 4), torch.float32)])
def test_blocks_that_do_not_suit_the_unit_have_no_stage_of_their_own(
    channels: tuple[int, int], dtype: torch.dtype
) -> None:
    block = RRDB(*channels).to(dtype)
    assert AmxConvolver(library_convolution, portable=True).block_stage(block, Workspace(), lag=0) is None


def test_a_network_uses_the_stage_unless_its_picture_wraps() -> None:
    net = RRDBNet(RRDBConfig(channels=8, blocks=2, growth=4)).bfloat16()
    convolve = AmxConvolver(library_convolution, portable=True)
    assert sum(isinstance(stage, AmxBlockStage) for stage in stages_of(net, Workspace(), convolve)) == 2
    wrapped = stages_of(net, Workspace(), convolve, wraps=True)
    assert not any(isinstance(stage, AmxBlockStage) for stage in wrapped)
    lags = [stage.lag for stage in stages_of(net, Workspace(), convolve)]
    assert lags == [stage.lag for stage in stages_of(net, Workspace(), library_convolution)][: len(lags)]
