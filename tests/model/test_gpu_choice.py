"""The choice of a GPU, and the detection of a lost one, with a fake driver: no test needs a GPU."""

import logging
from collections.abc import Iterator
from typing import NoReturn

import pytest
import torch

from model import gpu
from model.device import CPU, choose_device
from model.gpu import DeviceError, DeviceLostError, check_alive, runs_on, why_unusable

BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


class FakeDriver:
    """GPUs by compute capability, with the fault of each, if any."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capabilities: list[tuple[int, int]] = []
        self.faults: dict[int, Exception | bool] = {}
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(self.capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(self.capabilities))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: BUILT_FOR)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: self.capabilities[device.index])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
        monkeypatch.setattr(gpu, "_computes_rightly", self._computes_rightly)

    def _computes_rightly(self, device: torch.device) -> bool:
        fault = self.faults.get(device.index, True)
        if isinstance(fault, Exception):
            raise fault
        return fault


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    why_unusable.cache_clear()
    yield FakeDriver(monkeypatch)
    why_unusable.cache_clear()


NO_IMAGE = torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nmore")


@pytest.mark.parametrize("wanted", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_computes_rightly_is_taken(wanted: str, driver: FakeDriver) -> None:
    driver.capabilities = [(9, 0)]
    assert choose_device(wanted) == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "fault", "why"),
    [
        ((7, 0), True, "GPU 0 (sm_70): this build of PyTorch has code for sm_75, sm_80"),
        ((6, 1), True, "GPU 0 (sm_61): this build"),
        ((9, 0), False, "GPU 0 (sm_90) computes wrongly"),
        ((9, 0), NO_IMAGE, "GPU 0 (sm_90): CUDA error: no kernel image is available"),
    ],
    ids=["V100", "GTX 10", "wrong", "raises"],
)
def test_a_gpu_that_cannot_be_used_is_left_out_and_the_log_says_why(
    capability: tuple[int, int],
    fault: "Exception | bool",
    why: str,
    driver: FakeDriver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver.capabilities, driver.faults = [capability], {0: fault}
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == CPU
    assert why in caplog.text
    for wanted in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError) as refused:
            choose_device(wanted)
        assert why in str(refused.value)


def test_the_first_gpu_that_can_be_used_is_taken_and_a_number_means_that_one(driver: FakeDriver) -> None:
    driver.capabilities = [(6, 1), (8, 6), (9, 0)]
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 1)
    assert choose_device("cuda:2") == torch.device("cuda", 2)
    with pytest.raises(DeviceError, match="GPU 0 "):
        choose_device("cuda:0")
    with pytest.raises(DeviceError, match="numbers 0 to 2"):
        choose_device("cuda:3")


def test_the_cpu_can_be_insisted_on(driver: FakeDriver) -> None:
    driver.capabilities = [(9, 0)]
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:-1", "CUDA", ""])
def test_a_device_of_another_name_is_refused(wanted: str, driver: FakeDriver) -> None:
    driver.capabilities = [(9, 0)]
    with pytest.raises(DeviceError, match="use cpu, cuda, cuda:N or auto"):
        choose_device(wanted)


def no_driver() -> NoReturn:
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).\nUpdate it")


@pytest.mark.parametrize("loaded", [True, False])
def test_a_driver_that_offers_no_gpu_is_a_warning_only_where_there_is_one(
    loaded: bool, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "init", no_driver)
    monkeypatch.setattr(gpu, "driver_present", lambda: loaded)
    with caplog.at_level(logging.INFO):
        assert choose_device("auto") == CPU
    (record,) = caplog.records
    assert record.levelno == (logging.WARNING if loaded else logging.INFO)
    assert "driver on your system is too old" in caplog.text
    with pytest.raises(DeviceError, match=r"cuda cannot be used: .* too old"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("architecture", "capability", "runs"),
    [
        ("sm_75", (7, 5), True),
        ("sm_80", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_75", (8, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_120", (12, 1), True),
        ("compute_75", (12, 0), True),
        ("compute_90", (8, 9), False),
        ("compute_90a", (10, 0), False),
        ("gfx90a", (9, 0), False),
    ],
)
def test_code_runs_on_later_minor_versions_and_ptx_on_everything_later(
    architecture: str, capability: tuple[int, int], runs: bool
) -> None:
    assert runs_on(architecture, capability) is runs


def test_the_probe_of_a_gpu_is_exact_in_every_format_that_it_uses() -> None:
    assert gpu._computes_rightly(CPU)


def test_a_cpu_is_never_lost() -> None:
    check_alive(CPU)


@pytest.mark.parametrize(
    ("text", "lost"), [("CUDA error: unspecified launch failure", True), ("CUDA error: out of memory", False)]
)
def test_a_probe_that_raises_finds_the_device_lost_unless_memory_is_short(
    text: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def synchronize(_: torch.device) -> NoReturn:
        raise torch.AcceleratorError(text)

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    if lost:
        with pytest.raises(DeviceLostError, match=f"cuda:0 is lost: {text}"):
            check_alive(torch.device("cuda", 0))
    else:
        check_alive(torch.device("cuda", 0))


@pytest.mark.parametrize("total", [16.0, 15.0])
def test_a_probe_checks_what_the_device_computes(total: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.full((8,), total / 8 - 1))
    if total == 16:
        check_alive(torch.device("cuda", 0))
    else:
        with pytest.raises(DeviceLostError, match="computes wrongly"):
            check_alive(torch.device("cuda", 0))
