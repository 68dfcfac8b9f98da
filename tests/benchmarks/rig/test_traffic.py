"""Traffic: the uploads, the number of clients and the latencies."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import torch
from fastapi import FastAPI, Response, UploadFile
from PIL import Image

from benchmarks.rig.networks import random_generator
from benchmarks.rig.servers import our_service
from benchmarks.rig.traffic import Answered, counters, mixed_sides, percentiles, send, send_all, uploads_of
from model.files.checkpoint import Card, write_checkpoint
from model.rrdb import RRDBConfig

pytestmark = pytest.mark.anyio


class Server:
    """Echoes uploads and remembers them."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.pngs: list[bytes] = []
        self.most_at_a_time = self.at_a_time = 0
        self.status = 200
        self.app.post("/v1/upscale")(self.upscale)

    async def upscale(self, image: UploadFile) -> Response:
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        self.pngs.append(await image.read())
        for _ in range(20):
            await asyncio.sleep(0)  # lets the other clients in
        self.at_a_time -= 1
        return Response(self.pngs[-1], status_code=self.status)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="http://test") as client:
        yield client


async def test_every_picture_is_sent_once_by_that_number_of_clients(client: httpx.AsyncClient, server: Server) -> None:
    uploads = uploads_of([4, 5, 6, 7, 8, 9])
    done = await send_all(client, uploads, clients=3)
    assert sorted(server.pngs) == sorted(upload.png for upload in uploads)
    assert server.most_at_a_time == 3
    assert sorted(answer.side for answer in done.answered) == [4, 5, 6, 7, 8, 9]
    assert done.px_per_s * done.wall_s == pytest.approx(sum(side**2 for side in range(4, 10)))


async def test_a_refusal_ends_the_measurement(client: httpx.AsyncClient, server: Server) -> None:
    server.status = 429
    with pytest.raises(RuntimeError, match="status 429"):
        await send(client, uploads_of([4])[0])


async def test_a_server_without_counters_counts_nothing(client: httpx.AsyncClient) -> None:
    assert await counters(client) == {}


def test_sides_are_spread_over_the_octaves() -> None:
    sides = mixed_sides(1000)
    assert sides == mixed_sides(1000)
    assert min(sides) >= 48
    assert max(sides) <= 512
    assert 400 < sum(side < 157 for side in sides) < 600  # the middle of the octaves
    assert set(mixed_sides(50, choices=[64, 256])) == {64, 256}


def test_pictures_come_from_a_folder_too(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 77).save(tmp_path / "grey.png")
    (tmp_path / "LICENCES.csv").write_text("no picture")
    uploads = uploads_of([16, 8], tmp_path)
    assert [upload.picture.shape for upload in uploads] == [(1, 16, 16, 3), (1, 8, 8, 3)]
    assert all((upload.picture == 77).all() for upload in uploads)


def test_percentiles_are_those_of_the_latencies() -> None:
    answered = [Answered(side=1, seconds=number / 100) for number in range(101)]
    assert percentiles(answered) == ("0.500", "0.950", "0.990")
    assert percentiles([]) == ("-", "-", "-")


@pytest.mark.slow
async def test_the_service_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    card = Card(name="tiny", recipe="none", steps=0, data="nothing", metrics={}, created="2026-01-01")
    net = random_generator(RRDBConfig(channels=4, blocks=1, growth=2, scale=4))
    golden = torch.randint(0, 256, (3, 9, 13), dtype=torch.uint8)
    write_checkpoint(tmp_path / "tiny.safetensors", net, card, golden_input=golden)
    with our_service(tmp_path) as address:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            await send_all(client, uploads_of([8, 9, 10]), clients=2)
            counted = await counters(client)
    assert counted["batched_jobs"] == 3
