"""The reliable upscaler recovers from faults that are injected into the fast one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

from model.convolutions.library import library_convolution
from model.device import DeviceMemoryError
from model.edges import Edges
from model.errors import WeightsError
from model.files.checkpoint import Card, Checkpoint, read_checkpoint, reference_output, write_checkpoint
from model.golden import SelfTestError
from model.picture_upscaler import SuspiciousOutputError
from model.reliable import RECOVERY, ReliableUpscaler, load
from model.transfer import Pixels
from model.upscaler import Upscaler
from model.upscalers import upscaler_for
from tests.model.examples import random_net, textured
from tests.model.fast_paths import LOST_KERNEL, FakeFastPaths

CPU = torch.device("cpu")
CARD = Card(name="tiny", recipe="by_hand", steps=0, data="noise", metrics={}, created="2025-01-01")


def pixels(height: int, width: int, seed: int = 0) -> Pixels:
    return textured(height, width, seed).permute(1, 2, 0)[None].contiguous().numpy()


@pytest.fixture
def weight_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=textured(20, 24))
    return path


@pytest.fixture
def upscaler(weight_file: Path) -> ReliableUpscaler:
    return load(weight_file, CPU)[0]


def expected(picture: Pixels) -> Pixels:
    """The right answer, by the network itself."""
    return reference_output(random_net(), torch.from_numpy(picture)[0].permute(2, 0, 1)).permute(1, 2, 0)[None].numpy()


def close(made: Pixels, expected: Pixels) -> bool:
    error = numpy.square(made.astype(float) - expected).mean()
    return made.shape == expected.shape and bool(10 * numpy.log10(255**2 / max(error, 1e-9)) > 40)


class Faults:
    """Makes the fast upscaler fail by a rule, and records its calls.

    Args:
        fails: gets the LR px of a call; True: it runs out of memory.
        spoils: gets the picture; True: the output is suspicious, except in float32.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        fails: Callable[[int], bool] = lambda _: False,
        spoils: Callable[[Pixels], bool] = lambda _: False,
        from_band: int = 0,
    ) -> None:
        self.asked: list[int] = []
        batch, stream = Upscaler.batch, Upscaler.stream

        def check(upscaler: Upscaler, pictures: Sequence[Pixels], px: int) -> None:
            self.asked.append(px)
            if fails(px):
                raise DeviceMemoryError("CUDA out of memory")
            if upscaler.dtype is not torch.float32 and any(spoils(picture) for picture in pictures):
                raise SuspiciousOutputError("the network made nan")

        def faulty_batch(upscaler: Upscaler, pictures: Sequence[Pixels], edges: Edges = "auto") -> list[Pixels]:
            check(upscaler, pictures, sum(picture[..., 0].size for picture in pictures))
            return batch(upscaler, pictures, edges)

        def faulty_stream(
            upscaler: Upscaler, picture: Pixels, band_rows: int = 4, *, edges: Edges = "auto"
        ) -> Iterator[Pixels]:
            for number, rows in enumerate(stream(upscaler, picture, band_rows, edges=edges)):
                if number >= from_band:
                    check(upscaler, [picture], picture[:, :band_rows, :, 0].size)
                yield rows

        monkeypatch.setattr(Upscaler, "batch", faulty_batch)
        monkeypatch.setattr(Upscaler, "stream", faulty_stream)


@pytest.fixture
def fast_is_bfloat16(upscaler: ReliableUpscaler) -> ReliableUpscaler:
    """Use bfloat16 for the fast upscaler, even if the processor does not have it, so that float32 is another one."""
    upscaler._fast = Upscaler(random_net(), CPU, torch.bfloat16)
    return upscaler


def test_a_batch_that_does_not_fit_is_halved(upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch, fails=lambda px: px > 100)
    pictures = [pixels(9, 10, seed) for seed in range(4)]
    made = upscaler.batch(pictures)
    assert all(close(one, expected(picture)) for one, picture in zip(made, pictures, strict=True))
    assert faults.asked[:7] == [360, 180, 90, 90, 180, 90, 90]
    assert upscaler.retries["out_of_memory"] == 3


def test_a_single_picture_that_does_not_fit_goes_in_ever_smaller_bands(
    upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch, fails=lambda px: px > 30)
    assert close(upscaler.batch([pixels(16, 10)])[0], expected(pixels(16, 10)))
    assert [px for px in faults.asked if px > 30] == [160, 80, 40]
    assert upscaler.retries["out_of_memory"] == 3


@pytest.mark.parametrize("from_band", [0, 3, 9])
def test_a_stream_that_runs_out_of_memory_goes_on_with_half_the_band_and_repeats_nothing(
    upscaler: ReliableUpscaler,
    monkeypatch: pytest.MonkeyPatch,
    from_band: int,
) -> None:
    Faults(monkeypatch, fails=lambda px: px > 40, from_band=from_band)
    picture = pixels(60, 10)
    assert close(numpy.concatenate(list(upscaler.stream(picture, 8)), axis=1), expected(picture))
    assert upscaler.retries["out_of_memory"] == 1


def test_streams_raise_a_limit_again_that_was_lowered_for_want_of_memory(
    upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_px = upscaler.most_px
    with monkeypatch.context() as context:
        Faults(context, fails=lambda px: px > 40)
        list(upscaler.stream(pixels(60, 10), 8))
    assert upscaler.most_px < before_px
    for _ in range(RECOVERY):
        list(upscaler.stream(pixels(9, 10)))
    assert upscaler.most_px == before_px


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_reserve_that_does_not_fit_into_memory_is_a_clear_error(
    fast_is_bfloat16: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    Faults(monkeypatch, spoils=lambda _: True)
    monkeypatch.setattr(Upscaler, "__init__", _no_memory)
    with pytest.raises(DeviceMemoryError, match="out of memory"):
        list(fast_is_bfloat16.stream(pixels(9, 10)) if is_stream else fast_is_bfloat16.batch([pixels(9, 10)]))


def test_a_network_that_does_not_fit_into_memory_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Upscaler, "__init__", _no_memory)
    with pytest.raises(DeviceMemoryError, match="out of memory"):
        upscaler_for(random_net(), CPU)


def _no_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_picture_that_never_fits_is_a_clear_error_and_the_next_one_works(
    upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        Faults(context, fails=lambda _: True)
        with pytest.raises(DeviceMemoryError, match="out of memory"):
            upscaler.batch([pixels(16, 10), pixels(16, 10)])
        with pytest.raises(DeviceMemoryError, match="out of memory"):
            list(upscaler.stream(pixels(16, 10), 8))
    assert upscaler.batch([pixels(3, 3)])[0].shape == (1, 12, 12, 3)


def test_only_the_picture_whose_output_is_suspicious_is_done_again_in_float32(
    fast_is_bfloat16: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = pixels(9, 10, seed=2)
    Faults(monkeypatch, spoils=lambda picture: numpy.array_equal(picture, bad))
    pictures = [pixels(9, 10, seed) for seed in range(4)]
    made = fast_is_bfloat16.batch(pictures)
    assert all(close(one, expected(picture)) for one, picture in zip(made, pictures, strict=True))
    assert fast_is_bfloat16.retries == {"float32": 1}


@pytest.mark.parametrize("from_band", [0, 3, 9])
def test_a_stream_with_a_suspicious_band_goes_on_in_float32(
    fast_is_bfloat16: ReliableUpscaler,
    monkeypatch: pytest.MonkeyPatch,
    from_band: int,
) -> None:
    Faults(monkeypatch, spoils=lambda _: True, from_band=from_band)
    picture = pixels(60, 10)
    assert close(numpy.concatenate(list(fast_is_bfloat16.stream(picture, 8)), axis=1), expected(picture))
    assert fast_is_bfloat16.retries == {"float32": 1}


def test_what_is_not_finite_in_float32_either_is_an_error(weight_file: Path) -> None:
    upscaler, _ = load(weight_file, CPU)
    for one in (upscaler._fast, upscaler._exact):
        assert isinstance(one, Upscaler)
        one._net.conv_last.bias.fill_(float("nan"))  # type: ignore[union-attr]  # torch's stub allows one without
        one._convolve = library_convolution  # others have packed the weights that it had before
    with pytest.raises(SuspiciousOutputError, match="nan"):
        upscaler.batch([pixels(3, 3), pixels(4, 4)])
    with pytest.raises(SuspiciousOutputError, match="nan"):
        upscaler.upscale(pixels(3, 3))


def test_a_network_that_makes_one_colour_of_everything_serves(tmp_path: Path) -> None:
    net = random_net()
    net.conv_last.weight.zero_()
    write_checkpoint(tmp_path / "flat.safetensors", net, CARD, golden_input=textured(9, 8))
    upscaler, _ = load(tmp_path / "flat.safetensors", CPU)
    assert set(upscaler.batch([pixels(5, 5)])[0].flatten().tolist()) == {128}


def test_load_returns_an_upscaler_that_works_and_what_the_file_said(weight_file: Path) -> None:
    upscaler, checkpoint = load(weight_file, CPU)
    assert upscaler.scale == 4
    assert checkpoint.card == CARD
    assert upscaler.upscale(pixels(3, 3)).shape == (1, 12, 12, 3)


def test_load_refuses_a_file_that_is_no_weight_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        load(tmp_path / "absent.safetensors", CPU)


def altered(checkpoint: Checkpoint, weight: str) -> Checkpoint:
    checkpoint.net.get_parameter(weight).mul_(1.5)
    return checkpoint


@pytest.mark.parametrize("weight", ["conv_first.weight", "conv_body.weight", "conv_last.weight"])
def test_the_self_test_refuses_altered_weights(weight: str, weight_file: Path) -> None:
    checkpoint = altered(read_checkpoint(weight_file), weight)
    with pytest.raises(SelfTestError, match=r"self-test of tiny on cpu .* the golden picture is off by"):
        ReliableUpscaler(checkpoint, CPU)


def coarse_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is the fastest, and makes every level one of sixteen."""
    monkeypatch.setattr("model.upscaler.best_dtype", lambda net, device: torch.bfloat16)
    batch = Upscaler.batch

    def rounded(self: Upscaler, pictures: Sequence[Pixels], edges: Edges = "auto") -> list[Pixels]:
        made = batch(self, pictures, edges)
        return made if self.dtype is torch.float32 else [picture // 16 * 16 + 8 for picture in made]

    monkeypatch.setattr(Upscaler, "batch", rounded)


def test_a_network_that_16_bits_change_runs_in_float32(
    weight_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    coarse_bfloat16(monkeypatch)
    upscaler = load(weight_file, CPU)[0]
    assert upscaler.dtype is torch.float32
    assert close(upscaler.batch([pixels(9, 7)])[0], expected(pixels(9, 7)))
    assert "tiny runs in float32: in torch.bfloat16 the golden picture is" in caplog.text
    assert (
        upscaler.memory_bytes
        < 2 * ReliableUpscaler(read_checkpoint(weight_file), CPU, dtype=torch.float32).memory_bytes
    )


def test_exact_numbers_can_be_asked_for(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.upscaler.best_dtype", lambda net, device: torch.bfloat16)
    assert ReliableUpscaler(read_checkpoint(weight_file), CPU).dtype is torch.bfloat16
    assert ReliableUpscaler(read_checkpoint(weight_file), CPU, dtype=torch.float32).dtype is torch.float32


def test_the_self_test_refuses_a_golden_picture_of_another_size(weight_file: Path) -> None:
    checkpoint = read_checkpoint(weight_file)
    with pytest.raises(SelfTestError, match=r"self-test of tiny: \(1, 80, 96, 3\) px, not \(1, 80, 95, 3\)"):
        ReliableUpscaler(replace(checkpoint, golden_output=checkpoint.golden_output[:, :, 1:]), CPU)


def test_the_self_test_also_tries_the_stream(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReliableUpscaler, "upscale", lambda self, picture: self.batch([255 - picture])[0])
    with pytest.raises(SelfTestError, match="as a stream"):
        load(weight_file, CPU)


@pytest.mark.parametrize("path", ["graphs", "kernel", "pinned"])
@pytest.mark.parametrize("fault", [True, LOST_KERNEL], ids=["wrong", "raises"])
def test_only_the_fast_path_that_fails_is_disabled(
    path: str,
    fault: Exception | bool,
    weight_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    FakeFastPaths(monkeypatch, lambda used, dtype: fault if path in used else False)
    upscaler = load(weight_file, CPU)[0]
    assert upscaler.disabled == {path}
    assert upscaler.retries == {f"without_{path}": 1}
    assert upscaler.dtype is torch.bfloat16
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [f"tiny runs without {path}"]


def test_fast_paths_that_fail_only_together_lose_one_of_them(
    weight_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeFastPaths(monkeypatch, lambda used, dtype: {"graphs", "kernel"} <= used)
    assert load(weight_file, CPU)[0].disabled == {"graphs"}


def test_several_that_fail_are_disabled_together(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeFastPaths(monkeypatch, lambda used, dtype: bool({"graphs", "kernel"} & used))
    assert load(weight_file, CPU)[0].disabled == {"graphs", "kernel", "pinned"}


def test_a_format_that_fails_leaves_the_fast_paths_in_use(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeFastPaths(monkeypatch, lambda used, dtype: dtype is not torch.float32)
    upscaler = load(weight_file, CPU)[0]
    assert (upscaler.dtype, upscaler.disabled) == (torch.float32, frozenset())


def test_a_device_that_fails_in_every_way_serves_nothing(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeFastPaths(monkeypatch, lambda used, dtype: LOST_KERNEL)
    with pytest.raises(SelfTestError, match="invalid argument"):
        load(weight_file, CPU)


def test_memory_that_does_not_suffice_blames_no_fast_path(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeFastPaths(monkeypatch, lambda used, dtype: DeviceMemoryError("CUDA out of memory"))
    monkeypatch.setattr(
        Upscaler, "stream", lambda *_, **__: (_ for _ in ()).throw(DeviceMemoryError("CUDA out of memory"))
    )
    with pytest.raises(DeviceMemoryError):
        load(weight_file, CPU)


def test_want_of_memory_frees_what_is_kept_for_later_calls(
    upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaler.batch([pixels(16, 10)])
    held = upscaler.memory_bytes
    Faults(monkeypatch, fails=lambda px: True)
    with pytest.raises(DeviceMemoryError):
        upscaler.batch([pixels(16, 10)])
    assert upscaler.memory_bytes < held


@pytest.mark.parametrize("fails", [lambda px: px > 60, lambda px: False], ids=["out of memory", "in float32"])
def test_edges_still_wrap_when_work_is_repeated(
    fast_is_bfloat16: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]
) -> None:
    picture = pixels(16, 10)
    (expected,) = Upscaler(random_net(), CPU, torch.float32).batch([picture], "wrap")
    Faults(monkeypatch, fails=fails, spoils=lambda _: True)
    (whole,) = fast_is_bfloat16.batch([picture], "wrap")
    streamed = numpy.concatenate(list(fast_is_bfloat16.stream(picture, 8, edges="wrap")), axis=1)
    for made in (whole, streamed):
        assert numpy.abs(made.astype(int) - expected).max() <= 1
    assert fast_is_bfloat16.retries
