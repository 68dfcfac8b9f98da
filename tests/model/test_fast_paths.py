"""Fast paths of a GPU that raise after the load: work continues without them, and keeps the other ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy
import pytest
import torch

from model.files.checkpoint import Card, reference_output, write_checkpoint
from model.gpu import DeviceLostError
from model.reliable import ReliableUpscaler, load
from model.transfer import Pixels
from tests.model.examples import random_net, textured
from tests.model.fast_paths import FAST_PATHS, LOST_KERNEL, Fails, FakeFastPaths

CPU = torch.device("cpu")
CARD = Card(name="tiny", recipe="by_hand", steps=0, data="noise", metrics={}, created="2025-01-01")
ERRORS = [
    LOST_KERNEL,
    torch.AcceleratorError("CUDA error: invalid configuration argument"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    OSError(28, "No space left on device", "/var/cache/esrgan/triton/x.cubin"),
]


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> FakeFastPaths:
    return FakeFastPaths(monkeypatch)


@pytest.fixture
def upscaler(paths: FakeFastPaths, tmp_path: Path) -> ReliableUpscaler:
    write_checkpoint(tmp_path / "tiny.safetensors", random_net(), CARD, golden_input=textured(20, 24))
    made = load(tmp_path / "tiny.safetensors", CPU)[0]
    assert made.disabled == frozenset()
    paths.calls.clear()
    return made


def pixels(height: int, width: int) -> Pixels:
    return textured(height, width).permute(1, 2, 0)[None].contiguous().numpy()


def is_right(made: Pixels, picture: Pixels) -> bool:
    low_res = torch.from_numpy(picture)[0].permute(2, 0, 1)
    expected = reference_output(random_net(), low_res).permute(1, 2, 0)[None].numpy()
    error = numpy.square(made.astype(float) - expected).mean()
    return made.shape == expected.shape and bool(10 * numpy.log10(255**2 / max(error, 1e-9)) > 40)


def with_any(*names: str, error: Exception = LOST_KERNEL) -> Fails:
    """Fail if any of these paths is used."""
    return lambda used, dtype: error if used.intersection(names) else False


def together(bands: Iterator[Pixels]) -> Pixels:
    return numpy.concatenate(list(bands), axis=1)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("path", FAST_PATHS)
def test_a_path_that_begins_to_raise_is_disabled_in_all_later_batches(
    path: str, error: Exception, paths: FakeFastPaths, upscaler: ReliableUpscaler, caplog: pytest.LogCaptureFixture
) -> None:
    paths.fails = with_any(path, error=error)
    assert is_right(upscaler.batch([pixels(9, 7)])[0], pixels(9, 7))
    assert upscaler.disabled == {path}
    assert upscaler.retries == {f"without_{path}": 1}
    (line,) = caplog.messages
    assert line.startswith(f"tiny runs without {path}: with it, ")
    paths.calls.clear()
    upscaler.batch([pixels(9, 7)])
    assert paths.calls == [frozenset(FAST_PATHS) - {path}]


@pytest.mark.parametrize("from_band", [0, 3])
def test_a_stream_goes_on_without_the_path_that_raises_and_repeats_no_row(
    from_band: int, paths: FakeFastPaths, upscaler: ReliableUpscaler, caplog: pytest.LogCaptureFixture
) -> None:
    paths.fails, paths.from_band = with_any("kernel"), from_band
    assert is_right(together(upscaler.stream(pixels(30, 7), 4)), pixels(30, 7))
    assert upscaler.disabled == {"kernel"}
    assert upscaler.retries == {"without_kernel": 1}
    assert len(caplog.messages) == 1


def test_open_streams_that_find_out_one_after_the_other_lose_one_path_together(
    paths: FakeFastPaths, upscaler: ReliableUpscaler, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = (upscaler.stream(pixels(30, 7), 4) for _ in range(2))
    parts = [next(one)], [next(other)]
    paths.fails = with_any("kernel")
    for stream, part in zip((one, other), parts, strict=True):
        part.extend(stream)
        assert is_right(numpy.concatenate(part, axis=1), pixels(30, 7))
    assert upscaler.disabled == {"kernel"}
    assert upscaler.retries == {"without_kernel": 1}
    assert len(caplog.messages) == 1


def test_paths_that_fail_at_different_times_are_disabled_one_after_the_other(
    paths: FakeFastPaths, upscaler: ReliableUpscaler
) -> None:
    for names in (["kernel"], ["kernel", "pinned"], ["kernel", "pinned", "graphs"]):
        paths.fails = with_any(*names)
        assert is_right(upscaler.batch([pixels(9, 7)])[0], pixels(9, 7))
        assert upscaler.disabled == set(names)


def test_two_paths_that_fail_at_once_take_the_third_along(paths: FakeFastPaths, upscaler: ReliableUpscaler) -> None:
    paths.fails = with_any("graphs", "kernel")
    assert is_right(upscaler.batch([pixels(9, 7)])[0], pixels(9, 7))
    assert upscaler.disabled == set(FAST_PATHS)


def test_a_picture_that_fails_on_every_path_fails_alone_and_disables_nothing(
    paths: FakeFastPaths, upscaler: ReliableUpscaler, caplog: pytest.LogCaptureFixture
) -> None:
    paths.fails = lambda used, dtype: LOST_KERNEL
    with pytest.raises(RuntimeError, match="invalid argument"):
        upscaler.batch([pixels(9, 7)])
    with pytest.raises(RuntimeError, match="invalid argument"):
        together(upscaler.stream(pixels(9, 7), 4))
    assert upscaler.disabled == frozenset()
    assert upscaler.retries == {}
    assert caplog.messages == []
    paths.fails = lambda used, dtype: False
    paths.calls.clear()
    assert is_right(upscaler.batch([pixels(9, 7)])[0], pixels(9, 7))
    assert paths.calls == [frozenset(FAST_PATHS)]


def test_want_of_memory_of_the_host_blames_no_path(paths: FakeFastPaths, upscaler: ReliableUpscaler) -> None:
    paths.fails = with_any("kernel", error=MemoryError("no room for the pixels"))
    for work in (lambda: upscaler.batch([pixels(9, 7)]), lambda: together(upscaler.stream(pixels(9, 7), 4))):
        paths.calls.clear()
        with pytest.raises(MemoryError):
            work()
        assert paths.calls == [frozenset(FAST_PATHS)]
    assert upscaler.disabled == frozenset()


def test_a_stream_whose_caller_leaves_during_the_search_disables_nothing(
    paths: FakeFastPaths, upscaler: ReliableUpscaler
) -> None:
    paths.from_band = 2
    stream = upscaler.stream(pixels(30, 7), 4)
    rows = next(stream)
    paths.fails = with_any("kernel")
    while rows.shape[1]:
        rows = next(stream)  # until the first rows come again, which the caller has
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert upscaler.disabled == frozenset()
    assert upscaler.retries == {}


def test_on_a_lost_device_nothing_is_tried_again(
    paths: FakeFastPaths, upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: torch.device) -> NoReturn:
        raise DeviceLostError("cuda:0 is lost")

    monkeypatch.setattr("model.fast_paths.check_alive", lost)
    paths.fails = with_any("kernel")
    for work in (lambda: upscaler.batch([pixels(9, 7)]), lambda: together(upscaler.stream(pixels(9, 7), 4))):
        paths.calls.clear()
        with pytest.raises(DeviceLostError):
            work()
        assert paths.calls == [frozenset(FAST_PATHS)]
    assert upscaler.disabled == frozenset()
