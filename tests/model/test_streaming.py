import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from model import workspace
from model.convolutions.library import OneDnnConvolver
from model.convolutions.native import winograd
from model.convolutions.native.winograd import WinogradConvolver
from model.rrdb import PaddingMode, RRDBConfig, RRDBNet
from model.stages import GRID_ROWS
from model.streaming import state_bytes, upscale_batch, upscale_rows
from tests.model.examples import random_net

TOLERANCE = 0.01 / 255
"""A hundredth of an 8-bit level, for outputs of order 1."""

SIZES: list[tuple[int, int, int, int, PaddingMode]] = [
    (4, 1, 2, 4, "zeros"),
    (3, 2, 5, 4, "replicate"),
    (8, 3, 4, 4, "zeros"),
    (5, 1, 1, 1, "replicate"),
    (4, 2, 3, 2, "zeros"),
    (2, 1, 2, 8, "replicate"),
]
NETS = [
    random_net(RRDBConfig(channels=channels, blocks=blocks, growth=growth, scale=scale, padding_mode=padding_mode))
    for channels, blocks, growth, scale, padding_mode in SIZES
]


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def random_picture(height: int, width: int, planes: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(planes, 3, height, width, generator=torch.Generator().manual_seed(seed))


def streamed(net: RRDBNet, picture: Tensor, band_rows: int) -> Tensor:
    return torch.cat(list(upscale_rows(net, picture.split(band_rows, dim=2), band_rows=band_rows)), dim=2)


def assert_equal_pictures(made: Tensor, expected: Tensor) -> None:
    assert made.shape == expected.shape
    assert (made - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("net", NETS, ids=lambda net: str(net.config))
@pytest.mark.parametrize(
    ("height", "width", "band_rows"),
    [
        (1, 1, 1),
        (1, 9, 64),
        (2, 5, 1),
        (3, 1, 2),
        (7, 4, 3),
        (16, 6, 16),
        (17, 6, 16),
        (31, 5, 1),
        (32, 7, 8),
        (61, 3, 4),
    ],
)
def test_bands_of_rows_give_the_untiled_result(net: RRDBNet, height: int, width: int, band_rows: int) -> None:
    picture = random_picture(height, width)
    assert_equal_pictures(streamed(net, picture, band_rows), net(picture))


@pytest.mark.parametrize("band_rows", [1, 2, 3])
def test_bands_of_few_rows_never_overtake_rows_that_wait(band_rows: int) -> None:
    net = NETS[3]
    for height in range(1, 41, 3):
        picture = random_picture(height, 3)
        assert_equal_pictures(streamed(net, picture, band_rows), net(picture))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    net=st.sampled_from(NETS),
    height=st.integers(1, 40),
    width=st.integers(1, 12),
    band_rows=st.integers(1, 48),
    seed=st.integers(0, 99),
)
def test_any_height_width_and_band_gives_the_untiled_result(
    net: RRDBNet, height: int, width: int, band_rows: int, seed: int
) -> None:
    picture = random_picture(height, width, seed=seed)
    assert_equal_pictures(streamed(net, picture, band_rows), net(picture))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(net=st.sampled_from(NETS), heights=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_bands_of_changing_height_give_the_untiled_result(net: RRDBNet, heights: list[int]) -> None:
    picture = random_picture(sum(heights), 5)
    made = torch.cat(list(upscale_rows(net, picture.split(heights, dim=2), band_rows=9)), dim=2)
    assert_equal_pictures(made, net(picture))


@pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", [{}, {"scale": 3}, {"scale": 2, "unshuffle": 2}])
@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_how_a_picture_is_cut_changes_no_bit_of_it(
    sizes: dict[str, int], padding_mode: PaddingMode, dtype: torch.dtype
) -> None:
    net = random_net(RRDBConfig(channels=32, blocks=1, growth=16, padding_mode=padding_mode, **sizes)).to(dtype)
    if dtype is torch.float16 and not winograd.takes(net.conv_body):
        pytest.skip("this processor has no integers of 16 bits")
    net.conv_first.float()
    net.conv_last.float()
    grid = GRID_ROWS * net.config.unshuffle
    picture, convolve = random_picture(46, 26), WinogradConvolver(OneDnnConvolver())
    whole = upscale_batch(net, picture, convolve=convolve)
    for band_rows in (grid, 2 * grid, 5 * grid, 46):
        bands = upscale_rows(net, picture.split(band_rows, dim=2), band_rows=band_rows, convolve=convolve)
        assert torch.equal(torch.cat(list(bands), dim=2), whole)


def test_a_flat_picture_has_no_rim_where_borders_are_repeated() -> None:
    net = NETS[1]
    flat = torch.tensor([0.8, 0.1, 0.9])[:, None, None].expand(2, 3, 6, 9)
    for made in (
        streamed(net, flat, 4),
        upscale_batch(net, flat.clone(), torch.tensor([[6, 9], [3, 2]]))[1:, :, :12, :8],
    ):
        assert (made.amax(dim=(2, 3)) - made.amin(dim=(2, 3))).max() < TOLERANCE


def test_two_planes_stream_together_as_each_would_alone() -> None:
    colour, alpha = random_picture(13, 6, seed=1), random_picture(13, 6, seed=2)
    made = streamed(NETS[1], torch.cat((colour, alpha)), 4)
    assert_equal_pictures(made[:1], NETS[1](colour))
    assert_equal_pictures(made[1:], NETS[1](alpha))


def test_two_streams_in_turn_do_not_disturb_each_other() -> None:
    one, other = random_picture(12, 5, seed=1), random_picture(12, 5, seed=2)
    streams = [upscale_rows(NETS[0], picture.split(3, dim=2), band_rows=3) for picture in (one, other)]
    made: tuple[list[Tensor], list[Tensor]] = ([], [])
    while pair := [next(stream, None) for stream in streams]:
        if pair[0] is None or pair[1] is None:
            break
        made[0].append(pair[0])
        made[1].append(pair[1])
    for stream, rows in zip(streams, made, strict=True):
        rows.extend(stream)
    assert_equal_pictures(torch.cat(made[0], dim=2), NETS[0](one))
    assert_equal_pictures(torch.cat(made[1], dim=2), NETS[0](other))


def test_the_caller_gets_control_back_after_every_band() -> None:
    taken: list[int] = []

    def bands() -> Iterator[Tensor]:
        for number in range(10):
            taken.append(number)
            yield random_picture(1, 4)

    taken_at = [len(taken) for _ in upscale_rows(NETS[2], bands(), band_rows=1)]
    assert {later - earlier for earlier, later in pairwise(taken_at)} == {0, 1}


@pytest.mark.parametrize("net", NETS, ids=lambda net: str(net.config))
def test_each_picture_of_a_mixed_batch_is_upscaled_as_if_alone(net: RRDBNet) -> None:
    sizes = [(7, 5), (1, 1), (4, 9), (7, 9), (2, 3)]
    pictures = [random_picture(*size, seed=number) for number, size in enumerate(sizes)]
    batch = torch.zeros(len(sizes), 3, 7, 9)
    for picture, filled, (height, width) in zip(pictures, batch, sizes, strict=True):
        filled[:, :height, :width] = picture[0]
    made = upscale_batch(net, batch, torch.tensor(sizes))
    scale = net.config.scale
    assert made.shape == (len(sizes), 3, 7 * scale, 9 * scale)
    for upscaled, picture, (height, width) in zip(made, pictures, sizes, strict=True):
        assert_equal_pictures(upscaled[None, :, : height * scale, : width * scale], net(picture))


@pytest.fixture
def macs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Multiplications of every convolution from here on."""
    macs: list[int] = []
    original = functional.conv2d

    def counting(window: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: tuple[int, int] = (0, 0),
                 dilation: int = 1, groups: int = 1) -> Tensor:  # fmt: skip
        made = original(window, weight, bias, stride, padding, dilation, groups)
        macs.append(made.numel() * weight[0].numel())
        return made

    monkeypatch.setattr(functional, "conv2d", counting)
    return macs


@pytest.mark.parametrize("net", NETS, ids=lambda net: str(net.config))
@pytest.mark.parametrize("band_rows", [1, 5, 64])
def test_no_row_is_computed_twice(net: RRDBNet, band_rows: int, macs: list[int]) -> None:
    streamed(net, random_picture(23, 4), band_rows)
    assert sum(macs) == 23 * 4 * net.config.macs_per_low_res_px


def test_a_batch_without_padding_costs_what_its_pictures_cost(macs: list[int]) -> None:
    upscale_batch(NETS[0], random_picture(6, 5, planes=2))
    assert sum(macs) == 2 * 6 * 5 * NETS[0].config.macs_per_low_res_px


def live_bytes() -> int:
    """Bytes of the memory that all live dense tensors hold, a shared piece counted once."""
    tensors = [item for item in gc.get_objects() if type(item) is Tensor]
    pieces = [item.untyped_storage() for item in tensors if item.layout is torch.strided]
    return sum({piece.data_ptr(): piece.nbytes() for piece in pieces}.values())


def test_the_state_stops_growing_once_the_network_is_filled() -> None:
    bands = (random_picture(2, 6, seed=top) for top in range(60))
    gc.collect()
    held = [live_bytes()]
    for number, _ in enumerate(upscale_rows(NETS[0], bands, band_rows=2)):
        if number in (20, 50):
            held.append(live_bytes())
    before, filled, later = held
    assert later == filled > before


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates most of itself, not all
        self.elements = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.elements = max(self.elements, made.numel())
        return made


def largest_tensor(height: int) -> int:
    bands = (torch.ones(1, 3, 4, 6) for _ in range(0, height, 4))
    seen = LargestTensor()
    with seen:
        for _ in upscale_rows(NETS[0], bands, band_rows=4):
            pass
    return seen.elements


def test_no_tensor_grows_with_the_height_of_the_picture() -> None:
    assert largest_tensor(80) == largest_tensor(40) > 0


def test_the_last_rows_come_in_bands_too() -> None:
    heights = [rows.shape[2] for rows in upscale_rows(NETS[2], random_picture(40, 4).split(4, dim=2), band_rows=4)]
    assert sum(heights) == 4 * 40
    assert max(heights) <= 4 * (4 + 1)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only reference counts free memory: a device's memory must not wait for Python's cycle collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Tensor]]:
    """All memory that stages make from here on to keep rows in."""
    kept: list[weakref.ref[Tensor]] = []
    original = workspace.rows_like

    def noting(rows: Tensor, height: int) -> Tensor:
        made = original(rows, height)
        kept.append(weakref.ref(made))
        return made

    monkeypatch.setattr(workspace, "rows_like", noting)
    return kept


@pytest.mark.usefixtures("no_collector")
def test_closing_a_stream_early_frees_its_state_at_once(kept: list[weakref.ref[Tensor]]) -> None:
    rows = upscale_rows(NETS[0], random_picture(40, 4).split(4, dim=2), band_rows=4)
    for _ in range(5):
        next(rows)
    assert any(memory() is not None for memory in kept)
    rows.close()  # type: ignore[attr-defined]  # it is a generator, though announced as an iterator
    assert not any(memory() is not None for memory in kept)


@pytest.mark.usefixtures("no_collector")
def test_a_stream_that_is_read_to_its_end_leaves_nothing_behind(kept: list[weakref.ref[Tensor]]) -> None:
    streamed(NETS[0], random_picture(12, 4), 4)
    assert kept
    assert not any(memory() is not None for memory in kept)


GREY = random_net(RRDBConfig(channels=4, blocks=1, growth=2, scale=2, inputs=1))


@pytest.mark.parametrize("net", [*NETS, GREY], ids=lambda net: str(net.config))
def test_the_state_of_a_stream_is_what_it_is_said_to_be(net: RRDBNet, kept: list[weakref.ref[Tensor]]) -> None:
    stream = upscale_rows(net, (random_picture(20, 7) for _ in range(8)), band_rows=20)
    for _ in range(6):
        next(stream)
    held = [memory.untyped_storage().nbytes() for reference in kept if (memory := reference()) is not None]
    assert sum(held) == state_bytes(net, 7)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lag=st.integers(1, 9), steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_a_skip_path_gives_rows_back_in_order(lag: int, steps: list[tuple[int, int]]) -> None:
    path, put, taken = workspace.SkipPath(lag), 0, 0
    for new, wanted in steps:
        rows = torch.arange(put, put + new, dtype=torch.float32).view(1, 1, new, 1)
        put += new
        count = max(min(wanted, put - taken), put - taken - lag)  # no more than its lag may be left behind
        path.put(rows)
        made = path.add_to(torch.ones(1, 1, count, 1), 0.5)
        assert made.flatten().tolist() == [row + 0.5 for row in range(taken, taken + count)]
        taken += count


def test_a_stream_takes_no_band_before_it_is_asked() -> None:
    taken: list[int] = []

    def bands() -> Iterator[Tensor]:
        taken.append(1)
        yield random_picture(1, 1)

    stream = upscale_rows(NETS[0], bands(), band_rows=1)
    assert not taken
    next(stream)
    assert taken
