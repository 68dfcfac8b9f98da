"""Streamed answers, and answers that are small enough to be sent whole."""

import asyncio
import io
import math
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Generator

import httpx
import numpy
import pytest
from fastapi import Response
from PIL import Image
from starlette.types import Receive, Scope, Send

from app.batching.backlog import Reservation
from app.batching.job import Job
from app.batching.ticket import Outcome, Ticket
from app.lifecycle import Lifecycle
from app.networks import DeviceEngine
from app.pictures.encode import ENCODERS
from app.pictures.layout import Layout
from app.pictures.picture import Pixels
from app.service import UpscaleInput, UpscaleService
from app.settings import Settings
from tests.app.conftest import decoded, encoded, noise
from tests.app.live import Live, calling, serving, until

pytestmark = pytest.mark.anyio

TALL = noise(60, 660)
"""Larger than `whole_picture_px`, so it is a stream; its answer has more than one strip."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"max_buffered_bytes": 100_000, "max_picture_px": 10**7, "max_upload_bytes": 10**7, "send_idle_s": 60}
    )


@pytest.fixture
async def live(service: UpscaleService) -> AsyncIterator[Live]:
    async with serving(Lifecycle.of(service)) as it:
        yield it


@pytest.fixture
async def caller(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(live) as it:
        yield it


def after_each_band(engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch, call: Callable[[int], None]) -> None:
    """Make streams call this with the number of parts that they have yielded."""
    stream = engine.stream

    def watched(job: UpscaleInput, band_px: int) -> Generator[Pixels | None]:
        given = 0
        for part in stream(job, band_px):
            yield part
            given += part is not None
            call(given)

    monkeypatch.setattr(engine, "stream", watched)


async def test_a_small_answer_has_a_length_and_a_strong_tag(client: httpx.AsyncClient) -> None:
    first, again, other = [
        await client.post("/v1/upscale", content=encoded(noise(9, 9, seed=seed))) for seed in (0, 0, 1)
    ]
    assert int(first.headers["content-length"]) == len(first.content)
    assert first.headers["etag"] == again.headers["etag"] != other.headers["etag"]
    assert first.headers["etag"].startswith('"')


async def test_a_streamed_answer_is_the_same_file_as_a_buffered_one(
    caller: httpx.AsyncClient, live: Live, service: UpscaleService
) -> None:
    streamed = await caller.post("/v1/upscale", content=encoded(TALL))
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in streamed.headers
    assert "etag" not in streamed.headers
    live.life.settings = service.settings.model_copy(update={"max_buffered_bytes": 10**9})
    buffered = await caller.post("/v1/upscale", content=encoded(TALL))
    assert int(buffered.headers["content-length"]) == len(streamed.content)
    assert buffered.content == streamed.content
    assert buffered.headers["content-disposition"] == streamed.headers["content-disposition"]
    assert decoded(buffered).size == (240, 2640)


async def test_rows_leave_while_the_network_is_still_at_work(
    caller: httpx.AsyncClient, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    rows = 0

    def hold(given: int) -> None:
        nonlocal rows
        rows += 1
        if service.scheduler.counters().done_px > 60 * 400:
            assert gate.wait(60)

    after_each_band(engine, monkeypatch, hold)
    async with caller.stream("POST", "/v1/upscale", content=encoded(TALL)) as answer:
        pieces = answer.aiter_raw()
        file = await anext(pieces)
        assert not gate.is_set()
        gate.set()
        file += b"".join([piece async for piece in pieces])
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        assert image.size == (240, 2640)


async def test_an_error_in_mid_stream_resets_the_connection_and_the_next_request_works(
    live: Live,
    caller: httpx.AsyncClient,
    service: UpscaleService,
    engine: DeviceEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = threading.Event()

    def fail(given: int) -> None:
        if service.scheduler.counters().done_px > 60 * 400:
            assert began.wait(60)
            raise RuntimeError("no further")

    upload = encoded(TALL)
    with monkeypatch.context() as patch:
        after_each_band(engine, patch, fail)
        connection = await live.connect()
        await connection.send(f"POST /v1/upscale HTTP/1.1\nHost: x\nContent-Length: {len(upload)}\n\n", upload)
        answer = await connection.reader.readuntil(b"\r\n\r\n")
        began.set()
        rest, reset = await connection.rest()
        answer += rest
    assert reset
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\x89PNG" in answer
    assert b"IEND" not in answer
    assert not answer.endswith(b"\r\n0\r\n\r\n")
    assert (await caller.post("/v1/upscale", content=encoded(noise(5, 5)))).status_code == 200


async def test_a_deadline_in_mid_stream_resets_the_connection_and_is_not_logged_as_an_error(
    live: Live,
    caller: httpx.AsyncClient,
    service: UpscaleService,
    engine: DeviceEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()

    def hold(given: int) -> None:
        if service.scheduler.counters().done_px - before_px > 60 * 400:
            assert gate.wait(60)

    upload, began_s = encoded(TALL), time.monotonic()
    (await caller.post("/v1/upscale", content=upload)).raise_for_status()
    wait_s = max(2, math.ceil(4 * (time.monotonic() - began_s)))  # enough for the beginning of an answer
    before_px = service.scheduler.counters().done_px
    after_each_band(engine, monkeypatch, hold)
    connection = await live.connect()
    head = f"POST /v1/upscale HTTP/1.0\nHost: x\nPrefer: wait={wait_s}\nContent-Length: {len(upload)}\n\n"
    await connection.send(head, upload)
    answer, reset = await connection.rest()
    gate.set()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert reset
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]
    metrics = (await caller.get("/metrics")).text
    counted = 'esrgan_requests_total{model="tiny",outcome="deadline-passed",route="/v1/upscale",status="200"} 1.0'
    assert counted in metrics
    await until(lambda: live.life.accepted == 0)


async def test_a_caller_that_leaves_in_mid_stream_cancels_the_rest(
    caller: httpx.AsyncClient, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def hold(given: int) -> None:
        if service.scheduler.counters().done_px > 60 * 400:
            assert gate.wait(60)

    after_each_band(engine, monkeypatch, hold)
    async with caller.stream("POST", "/v1/upscale", content=encoded(TALL)) as answer:
        await anext(answer.aiter_raw())
    await until(lambda: service.scheduler.counters().outcomes[Outcome.WITHDRAWN] == 1)
    gate.set()
    assert service.scheduler.counters().queued_px == 0


def repeated(job: UpscaleInput, band_px: int) -> Generator[Pixels]:
    """Stream like an infinitely fast network."""
    planes, height, width, _ = job.planes.shape
    rows = max(1, band_px // (planes * width))
    for top in range(0, height, rows):
        yield job.planes[:, top : top + rows].repeat(4, axis=1).repeat(4, axis=2)


async def test_a_reader_that_pauses_delays_no_other_and_gets_its_whole_picture(
    caller: httpx.AsyncClient,
    live: Live,
    service: UpscaleService,
    engine: DeviceEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tickets: list[Ticket[Pixels]] = []
    submit = service.scheduler.submit

    def noted(job: Job[UpscaleInput], reservation: Reservation | None = None) -> Ticket[Pixels]:
        tickets.append(submit(job, reservation))
        return tickets[-1]

    monkeypatch.setattr(service.scheduler, "submit", noted)
    monkeypatch.setattr(engine, "stream", repeated)
    upload = encoded(noise(60, 15_000))
    connection = await live.connect()
    await connection.send(
        f"POST /v1/upscale HTTP/1.1\nHost: x\nConnection: close\nContent-Length: {len(upload)}\n\n", upload
    )
    await connection.reader.readuntil(b"\r\n\r\n")
    (ticket,) = tickets
    await until(lambda: ticket.unread >= 3 and not service.scheduler.counters().running_px, within_s=60)
    assert decoded(await caller.post("/v1/upscale", content=encoded(noise(5, 5)))).size == (20, 20)
    assert ticket.done_px < ticket.cost_px
    assert (await connection.reader.read()).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("height", [10_000, pytest.param(40_000, marks=pytest.mark.slow)])
async def test_the_memory_of_a_tall_answer_does_not_grow_with_its_height(
    height: int, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "stream", repeated)
    service.scheduler.start()
    pixels = numpy.arange(64 * height * 3, dtype=numpy.uint8).reshape(height, 64, 3)
    upload = encoded(Image.fromarray(pixels))
    header = await service.read_header(upload)
    async with service.library.lease(None) as network, service.upscale(upload, header, network) as answer:
        tracemalloc.start()
        try:
            size_bytes = sum([len(piece) async for piece in answer.pieces])
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    await service.scheduler.stop(drain_s=1)
    service.close()
    assert size_bytes > 1000
    assert most_bytes < 15e6 < 4 * height * 256 * 3


async def test_a_whole_answer_holds_only_its_own_bytes_while_it_is_sent(
    client: httpx.AsyncClient, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[int, int]] = []

    class Noted(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            held.append((service.pictures.used_bytes, service.uploads.used_bytes))
            await super().__call__(scope, receive, send)

    monkeypatch.setattr("app.http.endpoints.upscale.Response", Noted)
    small = await client.post("/v1/upscale", content=encoded(noise(9, 9)))
    large = await client.post("/v1/upscale?format=webp", content=encoded(noise(99, 99)))
    assert len(large.content) > service.settings.max_buffered_bytes
    assert held == [(len(small.content), 0), (len(large.content), 0)]
    assert service.pictures.used_bytes == 0


async def test_a_picture_that_is_decoded_gives_up_what_decoding_takes(service: UpscaleService) -> None:
    service.scheduler.start()
    upload = encoded(noise(60, 100))
    header = await service.read_header(upload)
    async with service.library.lease(None) as network, service.upscale(upload, header, network):
        assert service.pictures.used_bytes == 60 * 100 * 3
    await service.scheduler.stop(drain_s=1)
    service.close()


async def test_whole_files_that_are_encoded_delay_no_other_picture_and_keep_their_memory(
    client: httpx.AsyncClient, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, began = threading.Event(), list[int]()

    def slow(pixels: Pixels, layout: Layout) -> bytes:
        began.append(len(pixels))
        assert gate.wait(60)
        return b""

    monkeypatch.setitem(ENCODERS, "webp", slow)
    threads = service.settings.codec_threads
    leaving = [
        asyncio.create_task(client.post("/v1/upscale?format=webp", content=encoded(noise(5, 5))))
        for _ in range(threads)
    ]
    await until(lambda: len(began) == threads)
    assert decoded(await client.post("/v1/upscale", content=encoded(noise(5, 5)))).size == (20, 20)
    for one in leaving:
        one.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    assert service.pictures.used_bytes > 0
    gate.set()
    await until(lambda: service.pictures.used_bytes == 0)
