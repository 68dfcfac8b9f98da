"""Background jobs slow others down only by their weight, and never make them wait for room."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from app.batching.fair_queue import FairQueue
from app.batching.job import Job
from app.batching.queue import BACKGROUND_WEIGHT
from app.errors import QueueFull
from tests.app.batching.engine import FakeEngine, FakeInput, all_parts, large, make_scheduler, occupy, outputs, small

pytestmark = pytest.mark.anyio


def in_background(job: Job[FakeInput]) -> Job[FakeInput]:
    return replace(job, background=True)


def test_shares_follow_the_weights() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.join("asked", "lane")
    queue.join("later", "lane", weight=BACKGROUND_WEIGHT)
    served = ""
    for _ in range(500):
        first = queue.first()
        assert first is not None
        queue.serve([first], [20_000])
        queue.wait(first, "lane")
        served += first[0]
    assert served.count("a") / served.count("l") == pytest.approx(1 / BACKGROUND_WEIGHT, rel=0.05)


async def test_a_request_goes_before_background_jobs_that_came_earlier(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    first = await occupy(engine, scheduler, small("first"))
    later = [scheduler.submit(in_background(small(f"later{n}", px=400, bucket="other"))) for n in range(5)]
    asked = scheduler.submit(small("asked", px=400, deadline_s=engine.clock.now_s + 1000))
    engine.gate.set()
    await outputs(first, asked, *later)
    assert engine.pieces[1] == ["asked"]


async def test_a_request_goes_next_however_many_background_jobs_have_run_and_wait(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    jobs = (in_background(small(f"later{n}", px=16_000, bucket="other")) for n in itertools.count())
    waiting = [scheduler.submit(job) for job in itertools.islice(jobs, 4)]
    for _ in range(8):  # another for each that is done
        await outputs(waiting.pop(0))
        waiting.append(scheduler.submit(next(jobs)))
    engine.gate.clear()
    ran = len(engine.pieces)
    asked = scheduler.submit(small("asked", px=400))
    engine.gate.set()
    await outputs(asked, *waiting)
    assert ["asked"] in engine.pieces[ran : ran + 3]  # after the one that ran, and the one that was ready


async def test_a_background_job_does_not_wait_for_the_share_of_one_that_was_cancelled(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=10**9)
    first = await occupy(engine, scheduler, small("first"))
    async with scheduler.submit(in_background(large("cancelled", px=256 * 10**6))):
        pass
    later = scheduler.submit(in_background(small("later", px=400, bucket="other")))
    asked = [scheduler.submit(small(f"asked{n}", px=16_000)) for n in range(20)]
    engine.gate.set()
    await outputs(first, later, *asked)
    assert engine.pieces.index(["later"]) < len(engine.pieces) - 1


async def test_background_jobs_fill_no_queue(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=10_000)
    first = await occupy(engine, scheduler, small("first"))
    later = [scheduler.submit(in_background(small(f"later{n}", px=9_000))) for n in range(3)]
    with scheduler.reserve(in_background(small("planned", px=9_000))):
        asked = scheduler.submit(small("asked", px=9_000, deadline_s=engine.clock.now_s + 200))
    assert scheduler.counters().queued_px == 9_100
    with pytest.raises(QueueFull):
        scheduler.submit(small("refused", px=9_000))
    engine.gate.set()
    await outputs(first, asked, *later)
    assert scheduler.counters().queued_px == 0


async def test_background_jobs_alone_leave_the_queue_empty(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=100)
    later = await occupy(engine, scheduler, in_background(small("later", px=9_000)))
    assert scheduler.counters().backlog_s == 0
    asked = scheduler.submit(small("asked", px=9_000))  # larger than the limit, and taken because nothing else waits
    engine.gate.set()
    await outputs(later, asked)


async def test_open_background_streams_leave_the_memory_of_the_others_alone(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=2)
    job = in_background(large("later", px=256 * 50))
    later = await occupy(engine, scheduler, job)
    waits = scheduler.submit(in_background(large("waits", px=256 * 2)))
    asked = [scheduler.submit(large(name, px=256 * 4)) for name in ("asked", "too")]
    engine.gate.set()
    await asyncio.gather(*(all_parts(ticket) for ticket in asked))
    assert "later" not in engine.closed
    assert engine.most_open == 3  # the second in the background waits for the first
    await outputs(later, waits)


async def test_however_many_background_jobs_wait_a_request_is_not_predicted_to_be_late(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    first = await occupy(engine, scheduler, small("first"))
    second = scheduler.submit(small("second", px=10_000))
    later = [scheduler.submit(in_background(small(f"later{n}", px=400, bucket="other"))) for n in range(100)]
    asked = scheduler.submit(small("asked", deadline_s=engine.clock.now_s + 5))  # 3 s behind the first and second
    engine.gate.set()
    await outputs(first, second, asked, *later)


async def test_open_background_streams_have_half_as_much_memory_as_the_others(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=4)
    await outputs(*(scheduler.submit(in_background(large(f"later{n}"))) for n in range(4)))
    assert engine.most_open == 2


async def test_bands_of_a_background_job_are_half_as_large(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    asked, later = large("asked", row_px=10), in_background(large("later", row_px=10))
    await outputs(scheduler.submit(asked), scheduler.submit(later))
    assert engine.bands_px["later"] == engine.bands_px["asked"] / 2
