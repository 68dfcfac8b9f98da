import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy
import pytest
import torch
from torch import Tensor, nn

from model.convolutions.convolver import Epilogue
from model.convolutions.library import LibraryConvolver, library_convolution
from model.device import DeviceMemoryError
from model.files.checkpoint import reference_output
from model.graphs import CapturedCalls
from model.picture_upscaler import SuspiciousOutputError
from model.reserves import Reserves, band_px, reserves_of
from model.rrdb import MARGIN_PX, PADDING_MODES, RRDBConfig, RRDBNet
from model.streaming import upscale_batch
from model.transfer import Pixels
from model.upscaler import Upscaler
from tests.model.examples import random_net, textured
from tests.model.test_graphs import FakeGraphs

CPU = torch.device("cpu")
CONFIG = RRDBConfig(channels=16, blocks=2, growth=16, scale=4)
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(params=itertools.product(PADDING_MODES, DTYPES), ids=str)
def upscaler(request: pytest.FixtureRequest) -> Upscaler:
    padding_mode, dtype = request.param
    return Upscaler(random_net(replace(CONFIG, padding_mode=padding_mode)), CPU, dtype)


@pytest.fixture
def upscaler32() -> Upscaler:
    return Upscaler(random_net(CONFIG), CPU, torch.float32)


def pixels(height: int, width: int, planes: int = 1, seed: int = 0) -> Pixels:
    made = [textured(height, width, seed + plane).permute(1, 2, 0).numpy() for plane in range(planes)]
    return numpy.ascontiguousarray(numpy.stack(made))


def largest_difference(made: Pixels, expected: Pixels) -> int:
    assert made.shape == expected.shape
    assert made.dtype == expected.dtype == numpy.uint8
    return int(numpy.abs(made.astype(int) - expected).max())


def test_each_picture_of_a_batch_comes_out_as_if_it_were_alone(upscaler: Upscaler) -> None:
    pictures = [pixels(9, 14, seed=1), pixels(20, 7, seed=2), pixels(1, 1, seed=3), pixels(16, 16, seed=4)]
    for together, picture in zip(upscaler.batch(pictures), pictures, strict=True):
        (alone,) = upscaler.batch([picture])
        assert largest_difference(together, alone) <= 1


def test_a_stream_makes_what_a_batch_makes(upscaler: Upscaler) -> None:
    picture = pixels(37, 15)
    streamed = numpy.concatenate(list(upscaler.stream(picture, band_rows=8)), axis=1)
    assert largest_difference(streamed, upscaler.batch([picture])[0]) <= 1


def test_a_network_that_pads_with_zeros_sees_the_picture_mirrored_around_it() -> None:
    picture = pixels(11, 13)
    around = [(MARGIN_PX, MARGIN_PX)] * 2
    seen = numpy.pad(picture, [(0, 0), *around, (0, 0)], mode="symmetric")
    cut = slice(4 * MARGIN_PX, -4 * MARGIN_PX)
    expected = random_net(CONFIG)(torch.from_numpy(seen).permute(0, 3, 1, 2) / 255)[:, :, cut, cut]
    made = Upscaler(random_net(CONFIG), CPU, torch.float32).upscale(picture)
    assert largest_difference(made, (expected * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()) <= 1


def test_the_network_itself_makes_the_same_pixels(upscaler32: Upscaler) -> None:
    picture = textured(12, 10)
    expected = reference_output(random_net(CONFIG), picture).permute(1, 2, 0).numpy()
    made = upscaler32.upscale(picture.permute(1, 2, 0)[None].numpy())[0]
    assert largest_difference(made, expected) <= 1
    assert (made != expected).mean() < 0.01  # only values at the edge between two levels


def test_bfloat16_stays_close_to_float32(upscaler32: Upscaler) -> None:
    picture = pixels(24, 24)
    fast = Upscaler(random_net(CONFIG), CPU, torch.bfloat16).upscale(picture).astype(float)
    error = numpy.square(fast - upscaler32.upscale(picture)).mean()
    assert 10 * numpy.log10(255**2 / error) > 45


def test_every_plane_of_a_picture_comes_back_in_its_place(upscaler32: Upscaler) -> None:
    two, three = pixels(6, 5, planes=2, seed=1), pixels(4, 8, planes=3, seed=5)
    made = upscaler32.batch([two, three])
    assert [part.shape for part in made] == [(2, 24, 20, 3), (3, 16, 32, 3)]
    for picture, upscaled in ((two, made[0]), (three, made[1])):
        for plane, rows in zip(picture, upscaled, strict=True):
            assert largest_difference(rows, upscaler32.batch([plane[None]])[0][0]) <= 1


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_other_scales_come_out_in_their_size(scale: int) -> None:
    upscaler = Upscaler(random_net(replace(CONFIG, scale=scale)), CPU, torch.float32)
    assert upscaler.upscale(pixels(5, 3)).shape == (1, 5 * scale, 3 * scale, 3)
    assert upscaler.batch([pixels(5, 3)])[0].shape == (1, 5 * scale, 3 * scale, 3)


def test_a_stream_yields_rows_before_the_whole_picture_is_read(upscaler32: Upscaler) -> None:
    heights = [rows.shape[1] for rows in upscaler32.stream(pixels(300, 4), band_rows=20)]
    assert sum(heights) == 1200
    assert any(heights[: len(heights) // 2])


def test_inference_mode_does_not_leak_to_the_caller_of_a_stream(upscaler32: Upscaler) -> None:
    stream = upscaler32.stream(pixels(40, 4), band_rows=8)
    next(stream)
    assert not torch.is_inference_mode_enabled()


def test_the_result_owns_its_memory(upscaler32: Upscaler) -> None:
    small, large = upscaler32.batch([pixels(2, 2), pixels(30, 30)])
    assert not numpy.shares_memory(small, large)
    assert small.flags.c_contiguous
    assert large.flags.c_contiguous


@pytest.fixture
def every_warning() -> Iterator[None]:
    """Make torch repeat its warnings, so that the order of tests does not matter."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.fixture
def read_only() -> Pixels:
    picture = pixels(6, 6)
    picture.setflags(write=False)
    return picture


@pytest.mark.usefixtures("every_warning")
def test_a_read_only_picture_goes_through_a_batch_without_a_warning(upscaler32: Upscaler, read_only: Pixels) -> None:
    assert upscaler32.batch([read_only])[0].shape == (1, 24, 24, 3)


@pytest.mark.usefixtures("every_warning")
def test_a_read_only_picture_streams_without_a_warning(upscaler32: Upscaler, read_only: Pixels) -> None:
    assert upscaler32.upscale(read_only).shape == (1, 24, 24, 3)


def test_the_memory_layout_of_a_picture_does_not_matter(upscaler32: Upscaler) -> None:
    picture = pixels(9, 5)
    turned = numpy.asfortranarray(picture)
    assert largest_difference(upscaler32.batch([turned])[0], upscaler32.batch([picture])[0]) == 0
    assert largest_difference(upscaler32.upscale(turned), upscaler32.upscale(picture)) == 0


def test_upscaling_leaves_the_picture_alone(upscaler32: Upscaler) -> None:
    picture = pixels(9, 5)
    before = picture.copy()
    upscaler32.batch([picture])
    upscaler32.upscale(picture)
    assert (picture == before).all()


def spoilt(value: float) -> RRDBNet:
    """A network with `value` as its last bias: its output is wrong."""
    net = random_net(CONFIG)
    net.conv_last.weight.zero_()
    net.conv_last.bias.fill_(value)  # type: ignore[union-attr]  # torch's stub allows a convolution without
    return net


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_output_that_is_not_finite_is_refused(value: float, dtype: torch.dtype) -> None:
    upscaler = Upscaler(spoilt(value), CPU, dtype)
    with pytest.raises(SuspiciousOutputError, match=r"the network made (nan|inf|-inf)"):
        upscaler.batch([pixels(4, 5)])
    with pytest.raises(SuspiciousOutputError):
        upscaler.upscale(pixels(4, 5))


def test_a_flat_output_of_a_picture_is_suspicious_in_bfloat16_and_believed_in_float32() -> None:
    with pytest.raises(SuspiciousOutputError, match="a flat"):
        Upscaler(spoilt(0.5), CPU, torch.bfloat16).batch([pixels(4, 5)])
    (flat,) = Upscaler(spoilt(0.5), CPU, torch.float32).batch([pixels(4, 5)])
    assert set(flat.flatten().tolist()) == {128}


def test_a_flat_output_of_a_flat_picture_is_believed() -> None:
    grey = numpy.full((1, 4, 5, 3), 90, numpy.uint8)
    assert Upscaler(spoilt(0.5), CPU, torch.bfloat16).upscale(grey).shape == (1, 16, 20, 3)


def test_lack_of_memory_is_reported_as_such(upscaler32: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory(LibraryConvolver):
        def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(upscaler32, "_convolve", NoMemory())
    with pytest.raises(DeviceMemoryError, match="Tried to allocate 2 GiB"):
        upscaler32.batch([pixels(4, 5)])
    with pytest.raises(DeviceMemoryError):
        upscaler32.upscale(pixels(4, 5))


def test_16_bits_come_out_as_finely_as_they_went_in() -> None:
    upscaler = Upscaler(random_net(RRDBConfig(channels=8, blocks=1, growth=8)), CPU, torch.float32)
    picture = textured(12, 10).permute(1, 2, 0).numpy()[None]
    deep = picture.astype(numpy.uint16) * numpy.uint16(257)
    shallow, whole = upscaler.batch([picture, deep])
    streamed = numpy.concatenate(list(upscaler.stream(deep, 5)), axis=1)
    assert shallow.dtype == numpy.uint8
    assert whole.dtype == streamed.dtype == numpy.uint16
    assert numpy.abs(whole / 257 - shallow).max() <= 0.51
    assert numpy.abs(whole.astype(int) - streamed).max() <= 2
    assert len(numpy.unique(whole % 257)) > 100


def captured(upscaler: Upscaler) -> FakeGraphs:
    """Let a CPU's upscaler capture its batches, as a GPU's does."""
    graphs = FakeGraphs()
    small = partial(upscale_batch, upscaler._net, convolve=upscaler._convolve)
    upscaler._captured = CapturedCalls(small, graphs, calls_to_capture=1)
    return graphs


def test_sizes_of_one_bucket_share_a_graph(upscaler: Upscaler) -> None:
    pictures = [pixels(9, 14, seed=1), pixels(15, 7, seed=2), pixels(1, 1, seed=3)]
    alone = [upscaler.batch([picture])[0] for picture in pictures]
    graphs = captured(upscaler)
    for picture, expected in zip(pictures, alone, strict=True):
        assert largest_difference(upscaler.batch([picture])[0], expected) <= 1
    assert graphs.log.count("capture") == 1
    assert graphs.log.count("replay") == 3


def test_a_number_of_planes_is_filled_up_so_that_three_and_four_share_a_graph(upscaler32: Upscaler) -> None:
    pictures = [pixels(9, 9, seed=seed) for seed in range(4)]
    alone = [upscaler32.batch([picture])[0] for picture in pictures]
    graphs = captured(upscaler32)
    for count in (3, 4):
        made = upscaler32.batch(pictures[:count])
        assert all(largest_difference(*pair) <= 1 for pair in zip(made, alone[:count], strict=True))
    assert graphs.log.count("capture") == 1


def test_a_large_picture_goes_as_one_band_in_a_third_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, kept = pixels(64, 64), []
    made = []
    for captured_px in (2**16, 0):
        monkeypatch.setattr("model.upscaler.CAPTURED_PX", captured_px)
        upscaler = Upscaler(random_net(CONFIG), CPU, torch.float32, library_convolution)
        upscaler.band_px = 2**20
        made.append(upscaler.batch([picture])[0])
        kept.append(upscaler._reserves.workspace.memory_bytes)
    assert largest_difference(*made) <= 1  # PyTorch adds up in another order on some processors
    assert 3 * kept[1] < kept[0]


@pytest.mark.parametrize(("free", "band"), [(80e9, 2**20), (2e9, 434_782), (0, 1)])
def test_bands_on_a_gpu_take_half_of_the_memory_that_is_free(
    free: float, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free) // 2, int(80e9)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(free) - int(free) // 2 + 1000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    assert band_px(torch.device("cuda", 0), channels=64) == band


def test_networks_of_a_gpu_share_what_they_keep_and_those_of_a_cpu_do_not() -> None:
    gpu, other = torch.device("cuda", 0), torch.device("cuda", 1)
    kept = reserves_of(gpu)
    assert reserves_of(gpu) is kept
    assert reserves_of(other) is not kept
    assert reserves_of(CPU) is not reserves_of(CPU)


def test_reserves_drop_the_graphs_of_every_network() -> None:
    kept, calls = Reserves(CPU), [CapturedCalls(torch.neg, FakeGraphs(), calls_to_capture=1) for _ in range(2)]
    for call in calls:
        kept.add(call)
        call(torch.rand(3))
    kept.workspace.buffer(1, 3, 4, 5, torch.empty(0))
    kept.clear()
    assert kept.workspace.memory_bytes == sum(call.memory_bytes for call in calls) == 0


def test_high_and_wide_pictures_do_not_pad_each_other_beyond_what_is_captured(upscaler32: Upscaler) -> None:
    high, wide, small = pixels(100, 9), pixels(9, 100), pixels(9, 9)
    captured(upscaler32)
    assert upscaler32._fitting([high, wide, small], 2 * 32 * 128) == 1
    assert upscaler32._fitting([small, high, wide], 2 * 32 * 128) == 2
    assert upscaler32._fitting([wide, wide, wide], 2 * 32 * 128) == 2


def test_every_call_runs_with_the_networks_gpu_as_the_current_one(
    upscaler32: Upscaler, current_gpus: list[torch.device]
) -> None:
    upscaler32.device = torch.device("cuda", 1)
    with upscaler32._working():
        assert current_gpus == [torch.device("cuda", 1)]
    assert current_gpus == []
