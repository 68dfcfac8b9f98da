"""Good and bad callers at once over a network that fails now and then: no answer is wrong, and nothing is left."""

import asyncio
import gc
import random
import threading
from collections.abc import Generator, Sequence

import numpy
import pytest

from app.batching.ticket import Outcome
from app.pictures.picture import Pixels
from app.service import Job, UpscaleService
from app.settings import Settings
from benchmarks.rig.clients import Clients
from tests.app.conftest import encoded, noise
from tests.app.live import Live, until

pytestmark = pytest.mark.anyio

SIDES = (8, 16, 24, 40, 64, 90)
"""The last two are streams."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # Memory and queue for a few pictures only, so that limits are met all the time.
    return settings.model_copy(
        update={
            "max_queued_px": 20_000,
            "max_picture_memory_bytes": 2_000_000,
            "max_upload_memory_bytes": 150_000,
            "upload_idle_s": 0.2,
        }
    )


async def callers_of(live: Live, service: UpscaleService) -> Clients:
    """Clients that know the right answers."""
    callers = Clients(live.port, SIDES)
    async with service.library.lease(None) as network:
        for n, upload in enumerate(callers.uploads):
            (upscaled,) = service.scheduler._engine.batch([Job(network=network, planes=upload.picture)])
            callers.answers[n] = upscaled[0]
    return callers


def own_threads() -> set[str]:
    """Threads other than those of pools that are bounded and grow when they are used."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith(("asyncio", "codec"))}


async def at_rest(live: Live, service: UpscaleService) -> None:
    """Wait until nothing is left of any request."""
    await until(lambda: live.life.accepted == 0)
    await until(lambda: service.scheduler.counters().queued == 0)
    counters = service.scheduler.counters()
    assert (counters.queued_px, counters.open_streams, counters.held_bytes) == (0, 0, 0)
    assert (service.uploads.held_bytes, service.pictures.used_bytes, service.pictures.waiting) == (0, 0, 0)


async def test_under_a_mixed_load_every_answer_is_that_of_its_picture(live: Live, service: UpscaleService) -> None:
    callers = await callers_of(live, service)
    await callers.run(good=12, leaving=0, stalling=0, rubbish=0, until=asyncio.sleep(4))
    assert callers.seen.wrong == []
    assert callers.seen.statuses[200] > 20
    await at_rest(live, service)


async def test_after_chaos_the_service_serves_and_nothing_is_left(
    live: Live, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)
    batch, stream = service.scheduler._engine.batch, service.scheduler._engine.stream

    def failing_batch(inputs: Sequence[Job]) -> Sequence[Pixels]:
        if chance.random() < 0.3:
            raise ArithmeticError("the network fails now and then")
        return batch(inputs)

    def failing_stream(work: Job, band_px: int) -> Generator[Pixels | None, None, Pixels | None]:
        for part in stream(work, band_px):
            if chance.random() < 0.3:
                raise ArithmeticError("the network fails now and then")
            yield part
        return None

    callers = await callers_of(live, service)
    await callers.run(good=2, leaving=0, stalling=0, rubbish=1, until=asyncio.sleep(0.5))  # all threads have begun
    await at_rest(live, service)
    tasks, threads = len(asyncio.all_tasks()), own_threads()
    monkeypatch.setattr(service.scheduler._engine, "batch", failing_batch)
    monkeypatch.setattr(service.scheduler._engine, "stream", failing_stream)
    await callers.run(good=6, leaving=4, stalling=3, rubbish=3, until=asyncio.sleep(5))
    await at_rest(live, service)
    unforeseen = [text for text in callers.seen.wrong if " 500 " not in text]  # those are the network's
    assert unforeseen == []
    assert service.scheduler.counters().outcomes[Outcome.FAILED] > 0
    assert service.scheduler.counters().outcomes[Outcome.WITHDRAWN] > 0
    monkeypatch.undo()
    before = callers.seen.statuses[200]
    await callers.run(good=2, leaving=0, stalling=0, rubbish=0, until=asyncio.sleep(0.5))
    assert callers.seen.statuses[200] > before
    await at_rest(live, service)
    await until(lambda: not live.server.server_state.connections)
    gc.collect()
    assert len(asyncio.all_tasks()) <= tasks
    assert own_threads() == threads
    kept = [thing for thing in gc.get_objects() if type(thing) is numpy.ndarray and thing.nbytes > 50_000]
    assert sum(array.nbytes for array in kept) < 20_000_000


async def test_the_death_of_the_device_thread_is_answered_to_everybody(
    live: Live, service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(inputs: Sequence[Job]) -> Sequence[Pixels]:
        raise SystemExit("the driver is gone")

    monkeypatch.setattr(service.scheduler._engine, "batch", die)
    callers = [await live.connect() for _ in range(20)]
    picture = encoded(noise(5, 5))
    for caller in callers:
        await caller.send(f"POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: {len(picture)}\n\n", picture)
    assert {await caller.status() for caller in callers} <= {503, 429}
    await until(lambda: live.life.accepted == 0)
    assert (service.uploads.held_bytes, service.pictures.used_bytes) == (0, 0)
