"""A weight file is replaced repeatedly under load, over real HTTP."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy
import pytest
import torch
from PIL import Image

from app.build import build_service
from app.http.application import create_app
from app.lifecycle import Lifecycle
from app.server import Server
from app.settings import Settings
from model.files.checkpoint import Card, write_checkpoint
from model.rrdb import RRDBConfig, RRDBNet
from tests.app.conftest import encoded, noise, problem, write_tiny_model

pytestmark = pytest.mark.anyio

COLOURS = (60, 200)
SWAPS = 8


def write_constant_model(path: Path, level: int) -> None:
    """Write a generator with the same grey as output for every picture."""
    net = RRDBNet(RRDBConfig(channels=6, blocks=1, growth=4, scale=4))
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
        assert net.conv_last.bias is not None
        net.conv_last.bias.fill_(level / 255)
    card = Card(name="constant", recipe="none", steps=0, data="nothing", metrics={}, created="2026-01-01")
    write_checkpoint(path, net, card, golden_input=torch.zeros(3, 8, 8, dtype=torch.uint8))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A service on a real port, with the models `constant` and `tiny`."""
    models = tmp_path / "models"
    models.mkdir()
    write_constant_model(models / "constant.safetensors", COLOURS[0])
    write_tiny_model(models, "tiny")
    settings = Settings(models=models, default_model="tiny", watch_s=0.05, whole_picture_px=500)
    listener = socket.create_server(("127.0.0.1", 0))
    life = Lifecycle.of(build_service(settings))
    server = Server(create_app(life), life)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
        yield client
    server.should_exit = True
    await serving


async def listed(client: httpx.AsyncClient, name: str) -> dict[str, object]:
    answer = (await client.get("/v1/models")).json()
    return next(model for model in answer["models"] if model["name"] == name)


async def test_no_answer_fails_or_mixes_weights_while_the_file_is_swapped_under_load(
    served: httpx.AsyncClient, tmp_path: Path
) -> None:
    files = [tmp_path / f"{level}.safetensors" for level in COLOURS]
    for file, level in zip(files, COLOURS, strict=True):
        write_constant_model(file, level)
    level_of: dict[str, int] = {}
    latest, swapping = 0, True

    async def call(number: int) -> None:
        nonlocal latest
        while swapping:
            size = (12 + number, 20) if number % 2 else (40, 70 + number)  # batches and streams
            answer = await served.post("/v1/upscale?model=constant", content=encoded(noise(*size)))
            assert answer.status_code == 200, answer.text
            pixels = numpy.asarray(Image.open(io.BytesIO(answer.content)))
            assert pixels.min() == pixels.max()
            latest = int(pixels.max())
            assert level_of.setdefault(answer.headers["x-model"], latest) == latest

    async with asyncio.timeout(60), asyncio.TaskGroup() as callers:
        for number in range(6):
            callers.create_task(call(number))
        for swap in range(1, SWAPS + 1):
            fresh = tmp_path / "fresh"
            fresh.write_bytes(files[swap % 2].read_bytes())
            fresh.replace(tmp_path / "models" / "constant.safetensors")
            while latest != COLOURS[swap % 2]:  # until a request was answered by it  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        swapping = False
    assert set(level_of.values()) == set(COLOURS)


async def test_a_broken_file_is_listed_and_the_version_before_it_serves(
    served: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "models" / "constant.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    problem(await served.post("/v1/models/constant/reload"), 422, "unprocessable")
    model = await listed(served, "constant")
    assert model["state"] == "ready"
    assert "constant.safetensors" in str(model["reason"])
    assert str(tmp_path) not in str(model["reason"])
    answer = await served.post("/v1/upscale?model=constant", content=encoded(noise(9, 9)))
    assert answer.status_code == 200


async def test_a_file_that_is_dropped_into_the_folder_serves_and_is_unknown_once_removed(
    served: httpx.AsyncClient, tmp_path: Path
) -> None:
    path, upload = write_tiny_model(tmp_path / "models", "dropped", scale=2), encoded(noise(9, 9))

    async def until(status: int) -> httpx.Response:
        async with asyncio.timeout(30):
            while (answer := await served.post("/v1/upscale?model=dropped", content=upload)).status_code != status:
                assert answer.status_code in (200, 404)
        return answer

    assert Image.open(io.BytesIO((await until(200)).content)).size == (18, 18)
    path.unlink()
    problem(await until(404), 404, "no-such-model")


async def test_a_reload_answers_with_the_model_and_an_unknown_one_is_404(served: httpx.AsyncClient) -> None:
    answer = await served.post("/v1/models/tiny/reload")
    assert answer.status_code == 200
    assert answer.json()["state"] == "ready"
    problem(await served.post("/v1/models/nobody/reload"), 404, "no-such-model")
