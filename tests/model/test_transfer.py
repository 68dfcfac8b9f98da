import numpy
import pytest
import torch
from torch import Tensor

from model.rrdb import RRDBConfig
from model.transfer import CudaTransfer, Download, NoTransfer, Pixels
from model.upscaler import Upscaler
from tests.model.examples import random_net, textured

CPU = torch.device("cpu")


class LateTransfer(NoTransfer):
    """A device that computes the next band while the result of the one before is on its way."""

    ahead = 1

    def __init__(self) -> None:
        self.log: list[str] = []

    def upload(self, pixels: Pixels) -> Tensor:
        self.log.append("upload")
        return super().upload(pixels)

    def download(self, made: Tensor) -> Download:
        self.log.append("start")
        wait = super().download(made)

        def waiting() -> Pixels:
            self.log.append("wait")
            return wait()

        return waiting


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> LateTransfer:
    made = LateTransfer()
    monkeypatch.setattr("model.picture_upscaler.transfer_for", lambda device, **options: made)
    return made


def upscaler() -> Upscaler:
    return Upscaler(random_net(RRDBConfig(channels=8, blocks=1, growth=8, scale=2)), CPU, torch.float32)


def picture(height: int) -> Pixels:
    return numpy.ascontiguousarray(textured(height, 9).permute(1, 2, 0).numpy())[None]


@pytest.mark.parametrize("height", [1, 8, 40])
def test_results_that_come_late_are_the_same_rows(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = upscaler().upscale(picture(height))
    monkeypatch.setattr("model.picture_upscaler.transfer_for", lambda device, **options: LateTransfer())
    assert numpy.array_equal(numpy.concatenate(list(upscaler().stream(picture(height), 8)), axis=1), at_once)


def test_a_result_is_waited_for_only_when_the_next_band_has_been_computed(transfer: LateTransfer) -> None:
    bands = upscaler().stream(picture(40), band_rows=8)
    next(bands)
    assert transfer.log.count("start") == 2
    assert transfer.log.count("wait") == 1
    assert len(list(bands)) == transfer.log.count("start") - 1
    assert transfer.log.count("wait") == transfer.log.count("start")


def test_all_pictures_of_a_batch_are_on_their_way_before_one_is_waited_for(transfer: LateTransfer) -> None:
    upscaler().batch([picture(4), picture(4)])
    assert transfer.log == ["upload", "start", "start", "wait", "wait"]


def test_the_caller_may_overwrite_what_it_has_sent() -> None:
    pixels = picture(3)
    there = NoTransfer().upload(pixels)
    pixels[:] = 0
    assert there.any()


def test_pinned_memory_that_does_not_suffice_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    transfer = CudaTransfer.__new__(CudaTransfer)  # its constructor needs a GPU
    transfer._pinned = True

    def refused() -> Tensor:
        raise torch.AcceleratorError("CUDA error: out of memory")

    for _ in range(2):
        assert transfer._pinned_or_not(refused, lambda: torch.ones(1)) == 1
    assert caplog.text.count("ordinary memory from now on") == 1


def test_another_error_of_pinning_is_the_callers() -> None:
    transfer = CudaTransfer.__new__(CudaTransfer)
    transfer._pinned = True

    def refused() -> Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError, match="illegal"):
        transfer._pinned_or_not(refused, lambda: torch.ones(1))
