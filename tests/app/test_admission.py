"""Who may read an upload, who may decode one, and how well the time to come again is told."""

import asyncio

import httpx
import pytest

from app.admission import PictureMemory, UploadMemory
from app.errors import QueueFull
from app.service import UpscaleService
from tests.app.batching_engine import FakeEngine, large, make_scheduler, small
from tests.app.conftest import encoded, noise, problem
from tests.app.held import Held
from tests.app.live import Live, until

pytestmark = pytest.mark.anyio


def test_uploads_take_memory_as_they_grow_and_give_it_back() -> None:
    memory = UploadMemory(100, lambda: None)
    with memory.hold() as first, memory.hold() as second:
        first.grow_to(60)
        first.grow_to(50)
        second.grow_to(40)
        assert memory.held_bytes == 100
    assert memory.held_bytes == 0


def test_an_upload_that_does_not_fit_is_told_when_to_come_again() -> None:
    memory = UploadMemory(100, lambda: 30.0)
    with memory.hold() as first, memory.hold() as second:
        first.grow_to(90)
        with pytest.raises(QueueFull, match="limit of 100") as refusal:
            second.grow_to(40)
        assert refusal.value.retry_after_s == 10  # a third of what waits has to go
        assert memory.held_bytes == 90


async def test_pictures_wait_for_memory_in_order() -> None:
    memory = PictureMemory(100)
    order: list[str] = []

    async def take(name: str, size_bytes: int, leave: asyncio.Event) -> None:
        async with memory.room(size_bytes):
            order.append(name)
            await leave.wait()

    leave = [asyncio.Event() for _ in range(4)]
    sizes = {"first": 60, "large": 90, "small": 10, "gone": 10}
    tasks = [asyncio.create_task(take(*item, event)) for item, event in zip(sizes.items(), leave, strict=True)]
    await asyncio.sleep(0)
    assert order == ["first"]  # the small one would fit, but not before its turn
    assert memory.waiting == 3
    tasks[3].cancel()
    leave[0].set()
    await until(lambda: order == ["first", "large", "small"])
    assert memory.used_bytes == 100
    for event in leave:
        event.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (memory.used_bytes, memory.waiting) == (0, 0)


async def test_a_picture_larger_than_all_memory_is_taken_alone() -> None:
    memory = PictureMemory(100)
    async with memory.room(1000):
        assert memory.used_bytes == 1000


async def test_while_the_memory_for_uploads_is_full_others_are_refused_unread(
    live: Live, caller: httpx.AsyncClient, service: UpscaleService
) -> None:
    service.uploads._most_bytes = 1000
    slow = await live.connect()
    await slow.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 990\n\n", bytes(10))
    await until(lambda: service.uploads.held_bytes == 990)
    refused = await live.connect()
    await refused.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 800\nExpect: 100-continue\n\n")
    assert await refused.status() == 429  # and no 100 before it
    slow.hang_up()
    await until(lambda: service.uploads.held_bytes == 0)
    assert (await caller.post("/v1/upscale", content=encoded(noise(5, 5)))).status_code == 200


async def test_a_full_queue_refuses_by_the_header_before_anything_is_decoded(
    client: httpx.AsyncClient, service: UpscaleService, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.scheduler._backlog._max_px = 2048
    waits = [asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5)))) for _ in range(2)]
    await held.at_work()
    await until(lambda: service.scheduler.counters().queued_px == 2048)
    monkeypatch.setattr("app.service.decode", None)
    refused = await client.post("/v1/upscale", content=encoded(noise(6, 5)))
    problem(refused, 429, "queue-full")
    assert int(refused.headers["retry-after"]) >= 1
    held.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*waits)] == [200, 200]
    assert service.scheduler.counters().queued_px == 0


async def test_what_waits_for_a_decoder_has_its_place_in_the_queue(service: UpscaleService) -> None:
    service.scheduler.start()
    async with service.library.lease(None) as network:
        expected = service._work(None, network.info, (1, 100, 50), None)
    with service.scheduler.reserve(expected):
        assert service.scheduler.counters().queued_px == 5000
    assert service.scheduler.counters().queued_px == 0
    await service.scheduler.stop(drain_s=0)


async def test_under_a_steady_load_the_time_to_come_again_is_right_within_30_percent() -> None:
    engine = FakeEngine()
    engine.fixed_s = 0.3
    scheduler = make_scheduler(engine, max_queued_px=30_000, taught=False)
    told: list[tuple[float, float]] = []  # after which time a refused work may come again, and after which it could
    running: list[asyncio.Task[list[str]]] = []
    for n in range(150):
        px = (100, 300, 700, 2000, 5000)[n * 7 % 5]
        one = large(f"{n}", px=px, row_px=1) if px > 1000 else small(f"{n}", px=px)
        try:
            scheduler.reserve(one).give_back()
        except QueueFull as refusal:
            refused_s, retry_after_s = engine.clock(), refusal.retry_after_s or 0
            await until(lambda px=px: scheduler.counters().queued_px + px <= 30_000, pause_s=0)  # type: ignore[misc]  # of the default
            told.append((retry_after_s, engine.clock() - refused_s))
        running.append(asyncio.create_task(scheduler.submit(one).parts()))
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    settled = told[len(told) // 2 :]  # by now the pieces of all kinds have been measured
    assert len(settled) > 10
    predicted_s, true_s = (sum(times) for times in zip(*settled, strict=True))
    assert predicted_s == pytest.approx(true_s, rel=0.3)
