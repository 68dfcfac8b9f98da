"""Good and bad callers at once, with a network that fails sometimes: no answer is wrong, and nothing leaks."""

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Generator, Sequence

import numpy
import pytest

from app.batching.ticket import Outcome
from app.networks import DeviceEngine
from app.pictures.picture import Pixels
from app.service import UpscaleInput, UpscaleService
from app.settings import Settings
from benchmarks.rig.clients import Clients
from tests.app.conftest import encoded, noise
from tests.app.live import Live, until

pytestmark = pytest.mark.anyio

SIDES = (8, 16, 24, 40, 64, 90)
"""The last two are streams."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # Memory and queue for a few pictures only, so that limits are reached all the time.
    return settings.model_copy(
        update={
            "max_queued_px": 20_000,
            "max_picture_memory_bytes": 2_000_000,
            "max_upload_memory_bytes": 150_000,
            "upload_idle_s": 0.4,  # less than `MAX_STAY_S`
        }
    )


async def clients_of(live: Live, service: UpscaleService, engine: DeviceEngine) -> Clients:
    """Make clients that know the right answers."""
    callers = Clients(live.port, SIDES)
    async with service.library.lease(None) as network:
        for n, upload in enumerate(callers.uploads):
            (upscaled,) = engine.batch([UpscaleInput(network=network, planes=upload.picture)])
            callers.answers[n] = upscaled[0]
    return callers


async def at_least(seconds: float, holds: Callable[[], bool]) -> None:
    """Let time pass, and more on a machine that is too busy for a condition to hold by then."""
    await asyncio.sleep(seconds)
    await until(holds)


def own_threads() -> set[str]:
    """Return threads other than those of bounded pools that grow on demand."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith(("asyncio", "codec"))}


async def at_rest(live: Live, service: UpscaleService) -> None:
    """Wait until all requests have released their resources; decoding that nobody waits for ends later."""

    def used() -> tuple[int, ...]:
        counters, pictures = service.scheduler.counters(), service.pictures
        of_queue = (counters.queued, counters.queued_px, counters.open_streams, counters.stream_bytes)
        return (live.life.accepted, *of_queue, service.uploads.used_bytes, pictures.used_bytes, pictures.waiting)

    await until(lambda: not any(used()))


async def test_under_a_mixed_load_every_answer_is_that_of_its_picture(
    live: Live, service: UpscaleService, engine: DeviceEngine
) -> None:
    callers = await clients_of(live, service, engine)
    enough = at_least(4, lambda: callers.seen.statuses[200] > 20)
    await callers.run(good=12, leaving=0, stalling=0, rubbish=0, until=enough)
    assert callers.seen.wrong == []
    await at_rest(live, service)


async def test_after_chaos_the_service_works_and_nothing_leaks(
    live: Live, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)
    batch, stream = engine.batch, engine.stream

    def failing_batch(inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        if chance.random() < 0.3:
            raise ArithmeticError("the network fails now and then")
        return batch(inputs)

    def failing_stream(job: UpscaleInput, band_px: int) -> Generator[Pixels | None]:
        for part in stream(job, band_px):
            if chance.random() < 0.3:
                raise ArithmeticError("the network fails now and then")
            yield part

    callers = await clients_of(live, service, engine)
    answered = callers.seen.statuses
    started = at_least(0.5, lambda: answered[200] > 0)
    await callers.run(good=2, leaving=0, stalling=0, rubbish=1, until=started)  # all threads
    await at_rest(live, service)
    tasks, threads = len(asyncio.all_tasks()), own_threads()
    monkeypatch.setattr(engine, "batch", failing_batch)
    monkeypatch.setattr(engine, "stream", failing_stream)
    outcomes = service.scheduler.counters
    failed = at_least(5, lambda: min(outcomes().outcomes[it] for it in (Outcome.FAILED, Outcome.WITHDRAWN)) > 0)
    await callers.run(good=6, leaving=4, stalling=3, rubbish=3, until=failed)
    await at_rest(live, service)
    unforeseen = [text for text in callers.seen.wrong if " 500 " not in text]  # the others are the network's failures
    assert unforeseen == []
    monkeypatch.undo()
    before = answered[200]
    await callers.run(good=2, leaving=0, stalling=0, rubbish=0, until=until(lambda: answered[200] > before))
    await at_rest(live, service)
    await until(lambda: not live.server.server_state.connections)
    gc.collect()
    assert len(asyncio.all_tasks()) <= tasks
    assert own_threads() <= threads  # one of an earlier test may have ended
    kept = [thing for thing in gc.get_objects() if type(thing) is numpy.ndarray and thing.nbytes > 50_000]
    assert sum(array.nbytes for array in kept) < 20_000_000


async def test_every_request_fails_when_the_device_thread_dies(
    live: Live, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        raise SystemExit("the driver is gone")

    monkeypatch.setattr(engine, "batch", die)
    callers = [await live.connect() for _ in range(20)]
    picture = encoded(noise(5, 5))
    for caller in callers:
        await caller.send(f"POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: {len(picture)}\n\n", picture)
    assert {await caller.status() for caller in callers} <= {503, 429}
    await until(lambda: live.life.accepted == 0)
    assert (service.uploads.used_bytes, service.pictures.used_bytes) == (0, 0)
