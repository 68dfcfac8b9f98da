"""Deadlines that callers set, and work that ends when one has passed or the caller has left."""

import asyncio
import threading

import httpx
import pytest
from starlette.datastructures import Headers

from app.batching.ticket import Outcome
from app.http.application import create_app
from app.http.fields import preferences, whole_number
from app.lifecycle import Lifecycle
from app.pictures.decode import decode
from app.pictures.picture import Picture
from app.pictures.png_chunks import MetadataRule
from app.service import UpscaleService
from app.settings import Settings
from model.pictures.limits import Limits
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, problem
from tests.app.in_process import started
from tests.app.live import Live, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([], None),
        (["wait=7"], 7),
        (["respond-async, WAIT = 7 ,wait=9"], 7),
        (["return=minimal; wait=3", "wait=7"], 7),
        (['wait="7"'], 7),
        (["wait=7; strictly"], 7),
        (['foo="a, wait=3"; bar, wait=7'], 7),
        (["wait=0"], 0),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=soon"], None),
        (["wait=99999999999999999999"], None),
        (['=,;;"', "wait=7"], 7),
        ([", ,wait=7"], 7),
        (["handling=lenient"], None),
    ],
)
def test_the_preference_wait_is_parsed_as_in_rfc_7240(fields: list[str], seconds: int | None) -> None:
    sent = preferences(Headers(raw=[(b"prefer", field.encode()) for field in fields]))
    assert whole_number(sent.get("wait", "")) == seconds


async def test_a_preference_is_applied_up_to_the_maximum_and_the_answer_says_so(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(5, 5))
    answer = await client.post("/v1/upscale", content=upload, headers={"Prefer": "handling=lenient, wait=60"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60")
    answer = await client.post("/v1/upscale", content=upload, headers={"Prefer": "wait=100000"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=600")
    answer = await client.post("/v1/upscale", content=upload, headers={"Prefer": "handling=lenient"})
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


async def test_past_the_deadline_the_work_in_the_queue_is_dropped(
    client: httpx.AsyncClient, service: UpscaleService, blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.http.middleware.deadline.SLACK_S", 60)  # so that the scheduler is the first to notice
    info = service.library.find(None).info
    assert info is not None
    for _ in range(50):  # on a busy machine the warm-up was slow, and the late picture would be refused at once
        service.scheduler.costs.observe((info.version,), 1024, 0.001)
    first = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5))))
    await blocked.at_work()
    late = await client.post("/v1/upscale", content=encoded(noise(6, 5)), headers={"Prefer": "wait=1"})
    assert "px were done" in problem(late, 504, "deadline-passed")
    assert late.headers["preference-applied"] == "wait=1"
    blocked.gate.set()
    assert (await first).status_code == 200
    assert blocked.widths_px == [5]
    assert service.scheduler.counters().outcomes == {Outcome.EXPIRED: 1, Outcome.DONE: 1}


async def test_the_default_wait_is_a_deadline_too(
    settings: Settings, service: UpscaleService, blocked: BlockedDevice
) -> None:
    service.settings = settings.model_copy(update={"wait_s": 0.2})
    async with started(create_app(Lifecycle.of(service))) as it:
        late = await it.post("/v1/upscale", content=encoded(noise(5, 5)))
    problem(late, 504, "deadline-passed")
    assert "preference-applied" not in late.headers


async def test_a_picture_that_waits_for_a_decoder_when_its_deadline_passes_is_never_decoded(
    client: httpx.AsyncClient, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, decoded = threading.Event(), []

    def slow(upload: bytes, limits: Limits, metadata: MetadataRule) -> Picture:
        decoded.append(len(upload))
        assert gate.wait(60)
        return decode(upload, limits, metadata)

    monkeypatch.setattr("app.service.decode", slow)
    threads = service.settings.codec_threads
    busy = [asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5)))) for _ in range(threads)]
    await until(lambda: len(decoded) == threads)
    late = await client.post("/v1/upscale", content=encoded(noise(6, 5)), headers={"Prefer": "wait=0"})
    problem(late, 504, "deadline-passed")
    for _ in range(10):
        await asyncio.sleep(0)  # the cancellation reaches the threads
    gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*busy)] == [200] * threads
    assert len(decoded) == threads
    assert service.pictures.used_bytes == service.uploads.used_bytes == service.scheduler.counters().queued_px == 0


@pytest.mark.parametrize("farewell", ["close", "half-close", "reset"])
async def test_queued_work_is_cancelled_however_its_caller_leaves(
    live: Live, service: UpscaleService, blocked: BlockedDevice, farewell: str, caplog: pytest.LogCaptureFixture
) -> None:
    def head(body: bytes) -> str:
        return f"POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: {len(body)}\n\n"

    stays, leaves = await live.connect(), await live.connect()
    await stays.send(head(encoded(noise(5, 5))), encoded(noise(5, 5)))
    await blocked.at_work()
    await leaves.send(head(encoded(noise(6, 5))), encoded(noise(6, 5)))
    await until(lambda: service.scheduler.counters().queued == 2)
    if farewell == "half-close":
        leaves.writer.write_eof()
    elif farewell == "reset":
        leaves.writer.transport.abort()
    else:
        leaves.hang_up()
    await until(lambda: service.scheduler.counters().outcomes[Outcome.WITHDRAWN] == 1)
    blocked.gate.set()
    assert await stays.status() == 200
    assert blocked.widths_px == [5]
    await until(lambda: live.life.accepted == 0)
    assert service.pictures.used_bytes == service.uploads.used_bytes == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_caller_that_leaves_during_its_upload_leaves_nothing_behind(
    live: Live, service: UpscaleService
) -> None:
    caller = await live.connect()
    await caller.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 5000\n\n", bytes(100))
    await until(lambda: service.uploads.used_bytes == 100)
    caller.hang_up()
    await until(lambda: live.life.accepted == 0)
    assert service.uploads.used_bytes == 0
