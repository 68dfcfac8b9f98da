from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions import fused, trial
from model.convolutions.fused import FusedConvolver
from model.convolutions.library import OneDnnConvolver, library_convolution
from model.convolutions.native import amx, winograd
from model.convolutions.native.amx_convolver import AmxConvolver
from model.convolutions.native.winograd import WinogradConvolver
from model.convolutions.trial import best_convolver, best_dtype, fastest_cpu_dtype, fastest_way
from model.rrdb import RRDBConfig
from tests.model.examples import random_net

CPU = torch.device("cpu")
CONFIG = RRDBConfig(channels=16, blocks=1, growth=16, scale=2)


@pytest.fixture(autouse=True)
def _nothing_is_known_yet() -> Iterator[None]:
    fastest_way.cache_clear()
    fastest_cpu_dtype.cache_clear()
    yield
    fastest_way.cache_clear()
    fastest_cpu_dtype.cache_clear()


def fastest() -> object:
    return fastest_way(16, 16, torch.float32, CPU)()


def ours_is(monkeypatch: pytest.MonkeyPatch, convolve: object) -> None:
    monkeypatch.setattr(trial, "our_way", lambda dtype, device: lambda: convolve)


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[type, float]) -> None:
    monkeypatch.setattr(trial, "_seconds", lambda ways: [seconds[type(convolve)] for _, convolve in ways])


@pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")
@pytest.mark.parametrize(("winograd_s", "wins"), [(1.0, WinogradConvolver), (3.0, OneDnnConvolver)])
def test_the_faster_one_convolves(monkeypatch: pytest.MonkeyPatch, winograd_s: float, wins: type) -> None:
    timed(monkeypatch, {OneDnnConvolver: 2.0, WinogradConvolver: winograd_s})
    assert isinstance(best_convolver(random_net(CONFIG)), wins)


@pytest.mark.parametrize("there", [True, False])
def test_amx_is_tried_in_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(amx, "available", lambda: there)
    way = trial.our_way(torch.bfloat16, CPU)
    assert isinstance(way and way(), AmxConvolver) is there


def test_without_a_compiler_one_dnn_convolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "compiled", lambda: None)
    assert isinstance(best_convolver(random_net(CONFIG)), OneDnnConvolver)


def test_every_network_of_a_shape_has_a_convolver_of_its_own() -> None:
    assert best_convolver(random_net(CONFIG)) is not best_convolver(random_net(CONFIG))


def test_what_does_not_run_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None) -> Tensor:
        raise RuntimeError("no such instruction")

    ours_is(monkeypatch, broken)
    assert isinstance(fastest(), OneDnnConvolver)
    assert "no such instruction" in caplog.text


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_what_makes_something_else_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, factor: float
) -> None:
    def wrong(conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None) -> Tensor:
        return library_convolution(conv, window, active=active, target=target).mul_(factor)

    ours_is(monkeypatch, wrong)
    assert isinstance(fastest(), OneDnnConvolver)
    assert "is off by" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "wins"),
    [
        ((1.04, 1.0, 1.0), torch.float32),
        ((1.2, 1.0, 1.1), torch.bfloat16),
        ((1.2, 1.1, 1.0), torch.float16),
    ],
    ids=str,
)
def test_exact_numbers_are_worth_a_little_time(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], wins: torch.dtype
) -> None:
    monkeypatch.setattr(trial, "fast_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(winograd, "takes", lambda conv: True)
    monkeypatch.setattr(trial, "fastest_way", lambda *shape: lambda: library_convolution)
    taken_s = dict(zip((torch.float32, torch.bfloat16, torch.float16), seconds, strict=True))
    monkeypatch.setattr(trial, "_seconds", lambda ways: [taken_s[block.conv5.weight.dtype] for block, _ in ways])
    assert best_dtype(random_net(CONFIG), CPU) is wins


def test_networks_of_one_shape_compute_alike_and_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = best_dtype(random_net(CONFIG), CPU)
    monkeypatch.setattr(trial, "_seconds", None)
    assert best_dtype(random_net(CONFIG), CPU) is first


@pytest.mark.parametrize(
    ("capability", "dtype", "ours"),
    [
        ((7, 0), torch.float32, None),
        ((7, 5), torch.float16, None),
        ((8, 0), torch.float16, FusedConvolver),
        ((9, 0), torch.float16, FusedConvolver),
    ],
)
def test_the_tensor_cores_of_a_gpu_choose_its_format_and_its_kernel(
    capability: tuple[int, int], dtype: torch.dtype, ours: type | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(fused, "available", lambda: True)
    gpu = torch.device("cuda", 0)
    assert best_dtype(random_net(CONFIG), gpu) is dtype
    assert trial.our_way(dtype, gpu) is ours


def test_halves_are_for_networks_whose_channels_fill_registers() -> None:
    assert torch.float16 not in trial.cpu_dtypes(channels=12, growth=4)


@pytest.mark.skipif(not winograd.takes(nn.Conv2d(32, 32, 3).half()), reason="no integers of 16 bits here")
def test_a_format_that_the_library_emulates_is_not_timed_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_seconds", None)
    assert isinstance(fastest_way(32, 16, torch.float16, CPU)(), WinogradConvolver)


def test_a_cpu_convolves_every_format_with_something_that_runs() -> None:
    conv = nn.Conv2d(16, 8, 3, padding=1).bfloat16().requires_grad_(False)
    window = torch.rand(2, 16, 7, 13).bfloat16().contiguous(memory_format=torch.channels_last)
    made = best_convolver(random_net(CONFIG).to(torch.bfloat16))(conv, window)
    assert conv.bias is not None
    expected = functional.conv2d(window.float(), conv.weight.float(), conv.bias.float())
    torch.testing.assert_close(made.float(), expected, rtol=0.02, atol=0.02)


def test_the_trial_of_a_gpu_runs_with_that_gpu_as_the_current_one(
    current_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = torch.device("cuda", 1)
    seen: list[torch.device] = []

    def error(*_: object) -> float:
        seen.append(current_gpus[-1])
        return 0.0

    def seconds(_: object) -> list[float]:
        seen.append(current_gpus[-1])
        return [1.0, 2.0]

    block = trial._dense_block(16, 16, torch.float16, CPU)
    monkeypatch.setattr(trial, "_dense_block", lambda *_: block)
    ours_is(monkeypatch, library_convolution)
    monkeypatch.setattr(trial, "_error", error)
    monkeypatch.setattr(trial, "_seconds", seconds)
    fastest_way(16, 16, torch.float16, gpu)
    assert seen == [gpu, gpu]
    assert current_gpus == []
