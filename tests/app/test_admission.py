"""Admission of uploads and pictures, and the accuracy of Retry-After."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from app.admission import GRACE_S, MAX_PASSES, PictureMemory, UploadMemory, UploadReservation
from app.errors import QueueFull
from app.http.upload import _end_now
from app.options import UpscaleOptions
from app.pictures.decode import Header
from app.service import UpscaleService
from app.threads import in_thread
from tests.app.batching.engine import FakeEngine, all_parts, large, make_scheduler, small
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, problem
from tests.app.live import Live, until
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio


@contextmanager
def counting(reservation: UploadReservation) -> Iterator[list[str]]:
    """Collect a word each time that the reservation is evicted."""
    seen: list[str] = []
    with reservation.calling_on_eviction(lambda: seen.append("slow")):
        yield seen


def test_uploads_reserve_memory_as_they_grow_and_release_it() -> None:
    memory = UploadMemory(100, lambda: None)
    with memory.reserve() as first, memory.reserve() as second:
        first.grow_to(60)
        first.grow_to(50)
        second.grow_to(40)
        assert memory.used_bytes == 100
    assert memory.used_bytes == 0


def test_an_upload_that_does_not_fit_gets_the_time_until_complete_ones_are_done() -> None:
    memory = UploadMemory(100, lambda: 30.0)
    with memory.reserve() as first, memory.reserve() as second:
        first.grow_to(90)
        first.complete()
        with pytest.raises(QueueFull, match="limit is 100") as refusal:
            second.grow_to(40)
        assert refusal.value.retry_after_s == 10  # a third of the complete uploads has to finish
        with pytest.raises(QueueFull, match="limit is 100") as refusal:
            second.announce(40)
        assert refusal.value.retry_after_s == 10
        assert memory.used_bytes == 90


def test_an_announced_size_reserves_no_memory() -> None:
    memory = UploadMemory(100, lambda: None)
    with memory.reserve() as first, memory.reserve() as second:
        first.announce(90)
        second.announce(90)
        second.grow_to(90)
        assert memory.used_bytes == 90


def test_when_memory_is_full_the_slowest_incomplete_upload_is_evicted() -> None:
    clock = ManualClock()
    memory = UploadMemory(100, lambda: None, clock)
    with memory.reserve() as complete, memory.reserve() as slow, memory.reserve() as fast, ExitStack() as later:
        complete.grow_to(10)
        complete.complete()
        slow.grow_to(30)
        fast.grow_to(60)
        clock.now_s += GRACE_S
        newcomer = later.enter_context(memory.reserve())
        interrupted = later.enter_context(counting(slow))
        newcomer.grow_to(20)
        assert interrupted == ["slow"]
        with pytest.raises(QueueFull, match="uploads of 100 bytes are in memory") as refusal:
            slow.grow_to(31)
        assert refusal.value.retry_after_s == GRACE_S
        for one in (complete, fast, newcomer):
            one.check_kept()
        assert memory.used_bytes == 90
    assert memory.used_bytes == 0


async def test_an_upload_that_has_just_been_too_slow_can_be_evicted() -> None:
    async def read() -> None:
        async with asyncio.timeout(0) as timeout:
            try:
                await asyncio.sleep(1)
            finally:
                _end_now(timeout)  # in the moment between its cancellation and its error

    with pytest.raises(TimeoutError):
        await read()


def test_an_upload_does_not_evict_faster_or_younger_ones() -> None:
    clock = ManualClock()
    memory = UploadMemory(100, lambda: None, clock)
    with memory.reserve() as slow, memory.reserve() as fast, memory.reserve() as young:
        slow.grow_to(10)
        fast.grow_to(40)
        clock.now_s += GRACE_S / 2
        with pytest.raises(QueueFull) as refusal:
            young.grow_to(51)
        assert refusal.value.retry_after_s == GRACE_S  # then the slow one may be evicted
        clock.now_s += GRACE_S
        with pytest.raises(QueueFull):
            slow.grow_to(61)
        for one in (slow, fast):
            one.check_kept()


def test_nothing_is_evicted_where_that_would_not_make_enough_room() -> None:
    clock = ManualClock()
    memory = UploadMemory(100, lambda: 4.0, clock)
    with memory.reserve() as complete, memory.reserve() as slow:
        complete.grow_to(90)
        complete.complete()
        slow.grow_to(10)
        clock.now_s += GRACE_S
        with memory.reserve() as newcomer, pytest.raises(QueueFull):
            newcomer.grow_to(50)
        slow.check_kept()


class Line:
    """Pictures that use memory, each in a task until it leaves."""

    def __init__(self, memory: PictureMemory) -> None:
        self._memory = memory
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.order: list[str] = []

    async def join(self, name: str, size_bytes: int) -> None:
        leave = self._leave[name] = asyncio.Event()

        async def take() -> None:
            async with self._memory.reserve(size_bytes):
                self.order.append(name)
                await leave.wait()

        self._tasks[name] = asyncio.create_task(take())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def leave(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()
            await self._tasks[name]
        await asyncio.sleep(0)

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)


async def test_pictures_wait_for_memory_in_order() -> None:
    memory = PictureMemory(100)
    line = Line(memory)
    for name, size_bytes in {"first": 60, "large": 90, "larger": 95, "gone": 50}.items():
        await line.join(name, size_bytes)
    assert line.order == ["first"]
    assert memory.waiting == 3
    await line.give_up("gone")
    await line.leave("first")
    assert line.order == ["first", "large"]
    await line.leave("large")
    assert line.order == ["first", "large", "larger"]
    await line.leave("larger")
    assert (memory.used_bytes, memory.waiting) == (0, 0)


async def test_a_few_small_pictures_pass_one_that_waits_for_memory() -> None:
    line = Line(PictureMemory(100))
    await line.join("first", 80)
    await line.join("large", 90)
    small = [f"small {number}" for number in range(MAX_PASSES)]
    for name in small:
        await line.join(name, 10)
        await line.leave(name)
    await line.join("one too many", 10)
    assert line.order == ["first", *small]
    await line.leave("first")
    assert line.order == ["first", *small, "large", "one too many"]
    await line.leave("large", "one too many")


async def test_a_picture_behind_a_large_one_whose_caller_has_left_does_not_wait_for_it() -> None:
    line = Line(PictureMemory(100))
    await line.join("first", 80)
    await line.join("large", 85)
    passing = [f"small {number}" for number in range(MAX_PASSES)]
    for name in passing:
        await line.join(name, 10)
        await line.leave(name)
    await line.join("next", 10)
    await line.give_up("large")
    await asyncio.sleep(0)
    assert line.order == ["first", *passing, "next"]
    await line.leave("first", "next")


@pytest.mark.parametrize("settings", [{"max_picture_memory_bytes": 1000}], indirect=True)
async def test_pictures_of_jobs_have_half_as_much_memory_as_others(service: UpscaleService) -> None:
    line = Line(service.background_pictures)
    with service.pictures.hold(1000):
        for number in range(6):
            await line.join(f"{number}", 100)
        assert line.order == ["0", "1", "2", "3", "4"]
        await line.leave("0", "1", "2", "3", "4", "5")


async def test_memory_that_a_picture_gives_up_is_for_others() -> None:
    memory = PictureMemory(100)
    line = Line(memory)
    async with memory.reserve(100) as reservation:
        await line.join("next", 40)
        assert line.order == []
        reservation.keep(60)
        await asyncio.sleep(0)
        assert (line.order, memory.used_bytes) == (["next"], 100)
        await line.leave("next")
    assert memory.used_bytes == 0


async def test_memory_is_kept_until_a_call_that_cannot_be_stopped_has_ended() -> None:
    memory, gate = PictureMemory(100), threading.Event()
    began = threading.Event()

    def call() -> None:
        began.set()
        assert gate.wait(60)

    async def picture() -> None:
        async with memory.reserve(70) as reservation:
            await in_thread(reservation.watched(pool), call)

    with ThreadPoolExecutor(1) as pool:
        left = asyncio.create_task(picture())
        await asyncio.to_thread(began.wait, 60)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert memory.used_bytes == 70
        gate.set()
        await until(lambda: memory.used_bytes == 0)


async def test_a_picture_that_is_only_resized_is_refused_where_too_many_wait_for_memory(
    client: httpx.AsyncClient, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = encoded(noise(50, 50))
    with service.pictures.hold(10**12):
        waiting = asyncio.create_task(client.post("/v1/upscale?width=20", content=picture))
        await until(lambda: service.pictures.waiting == 1)
        with monkeypatch.context() as small:
            small.setattr(service.pictures, "_max_bytes", 100)
            refused = await client.post("/v1/upscale?width=20", content=picture)
    assert "the pictures that wait need 18750 bytes of memory" in problem(refused, 429, "queue-full")
    assert (await waiting).status_code == 200


async def test_an_answer_that_its_format_cannot_hold_is_refused_before_there_is_memory(
    client: httpx.AsyncClient, service: UpscaleService
) -> None:
    wide, wait = encoded(noise(4100, 1)), {"Prefer": "wait=5"}
    with service.pictures.hold(10**12):
        refused = await client.post("/v1/upscale?format=webp&scale=4", content=wide, headers=wait)
    assert "16400 x 4 px, and webp holds 16383 px each way" in problem(refused, 422, "unprocessable")


async def test_small_pictures_go_on_beside_one_that_is_larger_than_all_memory() -> None:
    line = Line(PictureMemory(1000))
    await line.join("large", 4000)
    await line.join("another", 4000)
    await line.join("small", 100)
    assert line.order == ["large", "small"]
    await line.leave("large")
    assert line.order == ["large", "small", "another"]
    await line.leave("small", "another")


async def test_a_large_picture_does_not_wait_for_small_answers_that_are_being_read() -> None:
    memory = PictureMemory(1000)
    line = Line(memory)
    with memory.hold(100):
        await line.join("large", 4000)
        assert line.order == ["large"]
    await line.leave("large")
    assert memory.used_bytes == 0


async def test_while_complete_uploads_fill_the_memory_others_are_refused_unread(
    live: Live, caller: httpx.AsyncClient, service: UpscaleService, blocked: BlockedDevice
) -> None:
    picture = encoded(noise(5, 5))
    service.uploads.max_bytes = len(picture)
    first = asyncio.create_task(caller.post("/v1/upscale", content=picture))
    await blocked.at_work()
    refused = await live.connect()
    await refused.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 800\nExpect: 100-continue\n\n")
    assert await refused.status() == 429  # and no 100 before it
    blocked.gate.set()
    assert (await first).status_code == 200


async def test_slow_senders_do_not_block_others(
    live: Live, caller: httpx.AsyncClient, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = encoded(noise(5, 5))
    service.uploads.max_bytes = 8000
    slow = [await live.connect() for _ in range(8)]
    for one in slow:
        await one.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 8000\n\n", bytes(10))
    await until(lambda: service.uploads.used_bytes == 80)
    assert (await caller.post("/v1/upscale", content=picture)).status_code == 200
    for one in slow:
        await one.send("", bytes(990))
    await until(lambda: service.uploads.used_bytes == 8000)
    monkeypatch.setattr("app.admission.GRACE_S", 0.0)
    assert (await caller.post("/v1/upscale", content=picture)).status_code == 200
    async with asyncio.timeout(60):
        statuses = [asyncio.create_task(one.status()) for one in slow]
        done, waiting = await asyncio.wait(statuses, return_when=asyncio.FIRST_COMPLETED)
    assert [one.result() for one in done] == [429]
    for task in waiting:
        task.cancel()


@pytest.mark.parametrize("settings", [{"max_queued_px": 2048}], indirect=True)
async def test_a_full_queue_refuses_by_the_header_before_anything_is_decoded(
    client: httpx.AsyncClient, service: UpscaleService, blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5)))) for _ in range(2)]
    await blocked.at_work()
    await until(lambda: service.scheduler.counters().queued_px == 2048)
    monkeypatch.setattr("app.service.decode", None)
    refused = await client.post("/v1/upscale", content=encoded(noise(6, 5)))
    problem(refused, 429, "queue-full")
    assert int(refused.headers["retry-after"]) >= 1
    blocked.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*waits)] == [200, 200]
    assert service.scheduler.counters().queued_px == 0


async def test_a_picture_that_waits_for_a_decoder_has_a_reservation_in_the_queue(service: UpscaleService) -> None:
    service.scheduler.start()
    async with service.library.lease(None) as network:
        header = Header(planes=1, height=100, width=50, bits=8)
        expected = service.work(header, network.info, UpscaleOptions()).job(None, (1, 100, 50))
    with service.scheduler.reserve(expected):
        assert service.scheduler.counters().queued_px == 5000
    assert service.scheduler.counters().queued_px == 0
    await service.scheduler.stop(drain_s=0)


async def test_under_a_steady_load_retry_after_is_right_within_30_percent() -> None:
    engine = FakeEngine()
    engine.fixed_s = 0.3
    scheduler = make_scheduler(engine, max_queued_px=30_000, taught=False)
    waits: list[tuple[float, float]] = []  # Retry-After, and the true time until there is room
    running: list[asyncio.Task[list[str]]] = []
    for n in range(150):
        px = (100, 300, 700, 2000, 5000)[n * 7 % 5]
        one = large(f"{n}", px=px, row_px=1) if px > 1000 else small(f"{n}", px=px)
        try:
            scheduler.reserve(one).release()
        except QueueFull as refusal:
            refused_s, retry_after_s = engine.clock(), refusal.retry_after_s or 0
            await until(lambda px=px: scheduler.counters().queued_px + px <= 30_000, pause_s=0)  # type: ignore[misc]  # of the default
            waits.append((retry_after_s, engine.clock() - refused_s))
        running.append(asyncio.create_task(all_parts(scheduler.submit(one))))
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    settled = waits[len(waits) // 2 :]  # when the pieces of all kinds have been measured
    assert len(settled) > 10
    predicted_s, true_s = (sum(times) for times in zip(*settled, strict=True))
    assert predicted_s == pytest.approx(true_s, rel=0.3)
