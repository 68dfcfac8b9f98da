"""The other endpoints, the documentation, and errors at the start."""

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
import torch
from fastapi import FastAPI
from starlette.types import Message

from app.build import build_service
from app.http.application import create_app
from app.library.entry import ModelState
from app.lifecycle import Lifecycle
from app.networks import DeviceEngine
from app.pictures.encode import writable_formats
from app.pictures.picture import Pixels
from app.service import UpscaleInput
from app.settings import Settings, SettingsError
from model.files.checkpoint import read_checkpoint
from tests.app.conftest import decoded, encoded, noise, problem, write_tiny_model
from tests.app.in_process import started

pytestmark = pytest.mark.anyio


async def test_the_models_are_listed_with_their_hash(
    client: httpx.AsyncClient, settings: Settings, models: Path
) -> None:
    answer = (await client.get("/v1/models")).json()
    assert answer["default"] == "tiny"
    assert answer["formats"] == [form.name for form in writable_formats()]
    assert answer["max_upload_bytes"] == settings.max_upload_bytes
    (entry,) = answer["models"]
    assert entry["name"] == "tiny"
    assert entry["scale"] == 4
    assert entry["sha256"] == read_checkpoint(models / "tiny.safetensors").sha256


def write_file_named(name: str, folder: Path) -> None:
    try:
        (folder / name).write_bytes(b"no weights")
    except OSError:
        pytest.skip("this file system takes no such name")


async def test_a_file_name_that_is_not_utf_8_breaks_neither_the_list_nor_answers(
    settings: Settings, models: Path
) -> None:
    write_file_named(os.fsdecode(b"caf\xe9.pth"), models)
    async with started(create_app(Lifecycle.of(build_service(settings)))) as it:
        entries = {entry["name"]: entry for entry in (await it.get("/v1/models")).json()["models"]}
        assert entries["caf"]["state"] == "failed"
        assert "\\udce9" in entries["caf"]["reason"]
        assert entries["tiny"]["state"] == "ready"
        upload = encoded(noise(5, 5))
        assert "\\udce9" in problem(await it.post("/v1/upscale?model=caf", content=upload), 503, "unavailable")
        assert "\\udce9" in problem(await it.post("/v1/models/caf/reload"), 422, "unprocessable")


async def test_a_running_service_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_a_service_that_drains_is_alive_but_not_ready(client: httpx.AsyncClient, life: Lifecycle) -> None:
    life.drain()
    assert (await client.get("/livez")).status_code == 200
    answer = await client.get("/readyz")
    problem(answer, 503, "unavailable")
    assert answer.json()["state"] == "draining"
    assert answer.headers["retry-after"] == "5"
    problem(await client.post("/v1/upscale", content=encoded(noise(5, 5))), 503, "unavailable")


async def test_a_dead_scheduler_makes_the_probes_fail(
    client: httpx.AsyncClient, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(job: UpscaleInput) -> int:
        raise RuntimeError("the loop is broken")

    monkeypatch.setattr(engine, "max_px", explode)  # the scheduler calls it on the event loop
    request = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5))))
    problem(await asyncio.wait_for(request, 60), 503, "unavailable")
    problem(await client.get("/livez"), 503, "unavailable")


async def test_an_unknown_path_is_a_problem_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404, "not-found")
    problem(await client.get("/v1/upscale"), 405, "method-not-allowed")


async def test_the_documentation_shows_both_ways_to_send(client: httpx.AsyncClient) -> None:
    assert (await client.get("/docs")).status_code == 200
    operation = (await client.get("/openapi.json")).json()["paths"]["/v1/upscale"]["post"]
    body = operation["requestBody"]["content"]
    assert "image" in body["multipart/form-data"]["schema"]["properties"]
    assert "image/jpeg" in body


async def test_work_is_cancelled_when_its_caller_leaves(
    client: httpx.AsyncClient, app: FastAPI, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()
    ran: list[str] = []
    upscale = engine.batch

    def blocked(inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        ran.extend(f"{job.planes.shape[2]} px wide" for job in inputs)
        entered.set()
        assert gate.wait(60)
        return upscale(inputs)

    monkeypatch.setattr(engine, "batch", blocked)
    stays = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5))))
    assert await asyncio.to_thread(entered.wait, 60)
    await asyncio.wait_for(send_and_hang_up(app, encoded(noise(6, 5))), 60)
    gate.set()
    assert (await stays).status_code == 200
    assert (await client.post("/v1/upscale", content=encoded(noise(7, 5)))).status_code == 200
    assert ran == ["5 px wide", "7 px wide"]


async def send_and_hang_up(app: FastAPI, upload: bytes) -> None:
    """Send the ASGI messages of a caller that sends a picture and closes the connection."""
    messages: Iterator[Message] = iter(
        [{"type": "http.request", "body": upload, "more_body": False}, {"type": "http.disconnect"}]
    )

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        pass

    request = {"type": "http", "method": "POST", "path": "/v1/upscale", "query_string": b"", "headers": []}
    await app(request, receive, send)


async def test_the_default_model_must_be_there(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"other is not in .*, which has tiny"):
        build_service(settings.model_copy(update={"default_model": "other"}))


@pytest.mark.parametrize(
    ("names", "default"),
    [
        (["compact-esrgan-x4", "compact-psnr-x4", "a"], "compact-psnr-x4"),
        (["compact-psnr-x4", "compact-real-psnr-x4", "a"], "compact-real-psnr-x4"),
        (["compact-real-esrgan-x4", "compact-real-psnr-x4", "a"], "compact-real-esrgan-x4"),
        (["mine", "yours"], "mine"),
    ],
)
async def test_without_a_setting_the_default_is_the_best_shipped_model_or_the_first(
    settings: Settings, models: Path, names: list[str], default: str
) -> None:
    (models / "tiny.safetensors").unlink()
    for name in names:
        write_tiny_model(models, name)
    service = build_service(settings.model_copy(update={"default_model": ""}))
    assert service.library.default == default


async def test_float32_can_be_requested(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.upscaler.best_dtype", lambda net, device: torch.bfloat16)
    for precision, dtype in (("fastest", "bfloat16"), ("float32", "float32")):
        service = build_service(settings.model_copy(update={"precision": precision}))
        (model,) = service.library.entries()
        assert model.info is not None
        assert model.info.precision == dtype


async def test_an_empty_models_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SettingsError, match=r"has no weight file"):
        build_service(settings.model_copy(update={"models": empty}))


async def test_several_models_are_served_by_name(settings: Settings, models: Path) -> None:
    write_tiny_model(models, "double", scale=2, seed=1)
    async with started(create_app(Lifecycle.of(build_service(settings)))) as it:
        answers = await asyncio.gather(
            it.post("/v1/upscale", content=encoded(noise(5, 5))),
            it.post("/v1/upscale?model=double", content=encoded(noise(5, 5))),
        )
    assert [answer.headers["x-model"].split("@")[0] for answer in answers] == ["tiny", "double"]


async def test_an_upload_that_is_not_a_picture_loads_no_network(settings: Settings, models: Path) -> None:
    write_tiny_model(models, "other", seed=1)
    service = build_service(settings.model_copy(update={"load": "lazy"}))
    async with started(create_app(Lifecycle.of(service))) as it:
        problem(await it.post("/v1/upscale?model=other", content=b"not a picture"), 415, "unsupported-format")
        assert service.library.find("other").state is ModelState.UNLOADED
        problem(await it.post("/v1/upscale?model=nobody", content=b"not a picture"), 404, "no-such-model")
        assert decoded(await it.post("/v1/upscale?model=other", content=encoded(noise(5, 5)))).size == (20, 20)
