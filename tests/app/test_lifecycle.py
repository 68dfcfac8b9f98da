"""From the opened port to the last answer: loading, ready, draining, broken."""

import asyncio
import threading
from collections.abc import Sequence

import httpx
import pytest

from app.lifecycle import Lifecycle, Phase
from app.networks import DeviceEngine
from app.pictures.picture import Pixels
from app.record import RequestRecord
from app.service import UpscaleInput, UpscaleService
from app.settings import Settings
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.http.protocol.plain_app import plain_app
from tests.app.in_process import without_models
from tests.app.live import Live, calling, serving, until

pytestmark = pytest.mark.anyio


def post(caller: httpx.AsyncClient, *, width: int = 5) -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(caller.post("/v1/upscale", content=encoded(noise(width, 5))))


async def test_while_it_loads_the_service_is_alive_and_says_that_it_is_not_ready(
    settings: Settings, service: UpscaleService
) -> None:
    gate = threading.Event()

    def build() -> UpscaleService:
        assert gate.wait(60)
        return service

    async with serving(Lifecycle(settings, build)) as live, calling(live) as caller:
        assert (await caller.get("/livez")).json() == {"status": "alive"}
        for answer in (await caller.get("/readyz"), await post(caller), await caller.get("/v1/models")):
            assert "is loading" in problem(answer, 503, "unavailable")
            assert answer.json()["state"] == "loading"
            assert answer.headers["retry-after"] == "5"
        gate.set()
        await until(lambda: live.life.phase is Phase.READY)
        assert (await post(caller)).status_code == 200


async def test_a_service_whose_networks_cannot_be_loaded_is_broken(settings: Settings) -> None:
    def build() -> UpscaleService:
        raise ValueError("no such network")

    failed = asyncio.Event()
    life = Lifecycle(settings, build)
    life.on_failure = failed.set
    async with serving(life) as live, calling(live) as caller:
        await asyncio.wait_for(failed.wait(), 60)
        assert (await caller.get("/livez")).json()["state"] == "broken"
    assert str(life.failure) == "no such network"


@pytest.mark.parametrize("settings", [{"drain_s": 600}], indirect=True)
async def test_a_signal_refuses_new_requests_and_ends_when_all_accepted_ones_are_answered(
    live: Live, caller: httpx.AsyncClient, blocked: BlockedDevice
) -> None:
    accepted = [post(caller, width=width) for width in range(5, 25)]
    await blocked.at_work()
    await until(lambda: live.life.accepted == len(accepted))
    live.signal()
    await asyncio.sleep(0)
    late = await post(caller)
    assert "is stopping" in problem(late, 503, "unavailable")
    assert late.json()["state"] == (await caller.get("/readyz")).json()["state"] == "draining"
    assert (await caller.get("/livez")).status_code == 200
    blocked.gate.set()
    for width, answer in enumerate(await asyncio.gather(*accepted), start=5):
        assert decoded(answer).size == (width * 4, 20)
    async with asyncio.timeout(60):
        await live.running


@pytest.mark.parametrize("settings", [{"leave_s": 600}], indirect=True)
async def test_a_service_that_leaves_fails_readyz_and_still_accepts(live: Live, caller: httpx.AsyncClient) -> None:
    live.signal()
    await until(lambda: live.life.phase is Phase.LEAVING)
    refused = await caller.get("/readyz")
    assert "about to stop" in problem(refused, 503, "unavailable")
    assert refused.json()["state"] == "leaving"
    assert "esrgan_ready 0.0" in (await caller.get("/metrics")).text
    answer = await post(caller)
    assert decoded(answer).size == (20, 20)
    assert answer.headers["connection"] == "close"  # so that the client's next connection goes to another replica


@pytest.mark.parametrize("settings", [{"leave_s": 0.01, "drain_s": 600}], indirect=True)
async def test_after_its_time_to_leave_a_service_drains_and_ends(
    live: Live, caller: httpx.AsyncClient, blocked: BlockedDevice
) -> None:
    accepted = post(caller)
    await blocked.at_work()
    live.signal()
    await until(lambda: live.life.phase is Phase.DRAINING)
    late = await post(caller)
    problem(late, 503, "unavailable")
    assert late.headers["connection"] == "close"
    blocked.gate.set()
    assert (await accepted).status_code == 200
    async with asyncio.timeout(60):
        await live.running


@pytest.mark.parametrize("settings", [{"leave_s": 600}], indirect=True)
async def test_a_service_that_breaks_while_it_leaves_ends_at_once(
    live: Live, caller: httpx.AsyncClient, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        raise SystemExit("the driver is gone")

    live.signal()
    await until(lambda: live.life.phase is Phase.LEAVING)
    monkeypatch.setattr(engine, "batch", die)
    problem(await post(caller), 503, "unavailable")
    async with asyncio.timeout(60):
        await live.running


@pytest.mark.parametrize("settings", [{"leave_s": 600}], indirect=True)
async def test_a_service_that_was_never_ready_does_not_leave_but_stops(settings: Settings) -> None:
    gate = threading.Event()

    def build() -> UpscaleService:
        assert gate.wait(600)
        raise ValueError("not wanted any more")

    async with serving(Lifecycle(settings, build)) as live:
        live.signal()
        async with asyncio.timeout(60):
            await live.running
        gate.set()


async def test_an_upload_that_was_accepted_may_be_finished_while_the_service_drains(live: Live) -> None:
    picture = encoded(noise(5, 5))
    caller = await live.connect()
    await caller.send(f"POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: {len(picture)}\n\n", picture[:20])
    await until(lambda: live.life.accepted == 1)
    live.signal()
    await caller.send("", picture[20:])
    assert await caller.status() == 200


async def test_after_the_drain_deadline_the_rest_is_aborted_and_the_service_ends(
    settings: Settings, service: UpscaleService, blocked: BlockedDevice
) -> None:
    life = Lifecycle.of(service)
    life.settings = settings.model_copy(update={"drain_s": 0})
    async with serving(life) as live, calling(live) as caller:
        waits = post(caller)
        await blocked.at_work()
        live.signal()
        problem(await waits, 503, "unavailable")
        async with asyncio.timeout(60):
            await live.running


def test_a_call_that_hangs_in_a_thread_does_not_hold_up_the_end() -> None:
    gate, records = threading.Event(), list[RequestRecord]()

    async def serve() -> None:
        life = without_models()
        async with serving(life, plain_app(life, records), [records.append]):
            asyncio.get_running_loop().run_in_executor(None, gate.wait, 600)

    whole = threading.Thread(target=asyncio.run, args=(serve(),))
    whole.start()
    whole.join(60)
    gate.set()
    assert not whole.is_alive()


async def test_a_dead_device_thread_makes_the_probes_fail(
    live: Live, caller: httpx.AsyncClient, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        raise SystemExit("the driver is gone")

    monkeypatch.setattr(engine, "batch", die)
    problem(await asyncio.wait_for(post(caller), 60), 503, "unavailable")
    for answer in (await caller.get("/livez"), await caller.get("/readyz"), await post(caller)):
        problem(answer, 503, "unavailable")
        assert answer.json()["state"] == "broken"
