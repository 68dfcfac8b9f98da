"""A GPU that fails while the service runs, from outside: probes, metrics, answers, and the end of the process."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
import torch

from app.batching.job import DeviceLost
from app.build import build_service
from app.jobs.job import JobState
from app.lifecycle import DEVICE_LOST_STATUS, Lifecycle, Phase
from app.networks import Device
from app.service import UpscaleService
from app.settings import Settings, SettingsError
from model.device import DeviceMemoryError
from model.gpu import DeviceLostError
from model.upscaler import Upscaler
from tests.app.conftest import decoded, encoded, noise, problem, write_tiny_model
from tests.app.live import Live, until
from tests.app.processes import ROOT, START_S, becomes_ready, free_port, variables

pytestmark = pytest.mark.anyio

ERRORS = [
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    DeviceMemoryError("CUDA error: an error that reads like one of memory"),
]


def fail_with(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def lose_device(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make every call of the device fail from now on, as after an illegal access, and the probe too."""
    monkeypatch.setattr(Upscaler, "batch", fail_with(error))
    monkeypatch.setattr(Upscaler, "stream", fail_with(error))
    monkeypatch.setattr("app.networks.memory_bytes", fail_with(error))
    monkeypatch.setattr("app.networks.check_alive", fail_with(DeviceLostError("cuda:0 is lost: unspecified")))


@pytest.mark.parametrize(("size", "error"), [*(((8, 8), error) for error in ERRORS), ((70, 90), ERRORS[0])], ids=str)
async def test_a_lost_device_turns_livez_red_and_ends_the_server_with_its_own_status(
    live: Live,
    caller: httpx.AsyncClient,
    size: tuple[int, int],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle = await live.connect()  # an upload that never comes keeps the server up while the probes are read
    await idle.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 100\n\n")
    await until(lambda: live.life.accepted == 1)
    live.life.on_failure = live.server.fail
    lose_device(monkeypatch, error)
    problem(await caller.post("/v1/upscale", content=encoded(noise(*size))), 503, "unavailable")
    for path in ("/livez", "/readyz"):
        answer = await caller.get(path)
        problem(answer, 503, "unavailable")
        assert answer.json()["state"] == "broken"
    metrics = await caller.get("/metrics")
    assert metrics.status_code == 200
    assert "esrgan_ready 0.0" in metrics.text
    idle.hang_up()
    async with asyncio.timeout(60):
        await live.running
    assert isinstance(live.life.failure, DeviceLost)
    assert live.life.exit_status == DEVICE_LOST_STATUS == 70


async def test_a_service_that_lost_its_device_claims_no_more_jobs(
    client: httpx.AsyncClient, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.runner.POLL_S", 0.05)
    lose_device(monkeypatch, ERRORS[0])
    pictures = [("image", encoded(noise(8, 8, seed=seed))) for seed in range(6)]
    job_id = (await client.post("/v1/jobs", files=pictures)).json()["id"]
    async with asyncio.timeout(60):
        while not any(picture.attempts for picture in (await life.jobs.get(job_id, None)).pictures):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while life.jobs.parts.runner._running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # the runner would look for work again
    pictures_now = (await life.jobs.get(job_id, None)).pictures
    assert {picture.state for picture in pictures_now} == {JobState.WAITING}
    attempts = [picture.attempts for picture in pictures_now]
    assert max(attempts) == 1
    assert attempts.count(0) >= 2  # with at most four at a time


async def test_an_error_after_which_the_device_still_computes_is_that_requests_own(
    client: httpx.AsyncClient, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Upscaler, "batch", fail_with(torch.AcceleratorError("CUDA error: invalid argument")))
        problem(await client.post("/v1/upscale", content=encoded(noise(8, 8))), 500, "internal")
    assert (await client.get("/livez")).status_code == 200
    assert decoded(await client.post("/v1/upscale", content=encoded(noise(8, 8)))).size == (32, 32)
    assert life.phase is Phase.READY


async def test_memory_that_cannot_be_read_costs_neither_the_answer_nor_the_metrics(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.networks.memory_bytes", fail_with(torch.AcceleratorError("CUDA error: not supported")))
    assert decoded(await client.post("/v1/upscale", content=encoded(noise(8, 8)))).size == (32, 32)
    assert (await client.get("/metrics")).status_code == 200


async def test_metrics_that_cannot_be_read_leave_the_others(
    client: httpx.AsyncClient, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.device, "memory_bytes", fail_with(RuntimeError("dictionary changed size")))
    metrics = (await client.get("/metrics")).text
    assert "esrgan_device_memory_bytes" not in metrics
    assert 'esrgan_model_state{model="tiny",state="ready"} 1.0' in metrics
    assert "esrgan_pieces_total" in metrics


async def test_a_device_lost_while_networks_load_is_no_fault_of_the_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(settings.models, "another")
    lose_device(monkeypatch, ERRORS[0])
    life = Lifecycle(settings, lambda: build_service(settings))
    failed = asyncio.Event()
    life.on_failure = failed.set
    life.start()
    await asyncio.wait_for(failed.wait(), 60)
    assert isinstance(life.failure, DeviceLost)
    assert life.exit_status == DEVICE_LOST_STATUS


@pytest.mark.parametrize("hangs", ["app.networks.choose_device", "app.networks.ReliableUpscaler"])
async def test_a_driver_that_hangs_while_networks_load_ends_the_process_like_a_lost_device(
    hangs: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(hangs, lambda *_, **__: gate.wait(60))
    settings = settings.model_copy(update={"hang_s": 0.05})
    life = Lifecycle(settings, lambda: build_service(settings))
    failed = asyncio.Event()
    life.on_failure = failed.set
    life.start()
    await asyncio.wait_for(failed.wait(), 60)
    gate.set()
    assert isinstance(life.failure, DeviceLost)
    assert "has run for" in str(life.failure)
    assert life.exit_status == DEVICE_LOST_STATUS


@pytest.mark.parametrize("wanted", ["cuda", "cuda:3"])
def test_a_gpu_that_is_insisted_on_and_cannot_be_used_stops_the_start(
    wanted: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.gpu.present", lambda: (0, "Found no NVIDIA driver"))
    with pytest.raises(SettingsError, match=f"ESRGAN_DEVICE={wanted}: .*Found no NVIDIA driver"):
        build_service(settings.model_copy(update={"device": wanted}))


HANGING = """
import sys, threading
from app.__main__ import end, main
from app.batching import device_thread
from app.networks import DeviceEngine

device_thread.UNKNOWN_FACTOR = 1e4  # loading does not hang
DeviceEngine.batch = lambda *_: threading.Event().wait()
end(main([]))
"""


def test_a_process_whose_device_hangs_ends_by_itself_with_its_own_status(models: Path) -> None:
    port = free_port()
    environment = variables(models=models, port=port, hang_s=0.2, drain_s=0)
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert becomes_ready(process, port)
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/upscale", content=encoded(noise(8, 8)), timeout=START_S)
    problem(answer, 503, "unavailable")
    _, said = process.communicate(timeout=START_S)
    assert process.returncode == DEVICE_LOST_STATUS, said
    assert "a piece of" in said


def test_a_batch_reads_the_memory_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    monkeypatch.setattr("app.networks.memory_bytes", lambda _: {"free": 5})
    with device.watched():
        assert device.memory_bytes() == {}
    assert device.memory_bytes() == {"free": 5}
