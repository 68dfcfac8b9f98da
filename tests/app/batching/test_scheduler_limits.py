"""Limits of the queue: admission, deadlines, shutdown; and the counters."""

import asyncio
import time

import pytest

from app.batching.job import Job
from app.batching.scheduler import Scheduler
from app.batching.ticket import Outcome
from app.errors import DeadlinePassed, QueueFull, Unavailable
from tests.app.batching.engine import (
    FakeEngine,
    FakeInput,
    all_parts,
    large,
    make_scheduler,
    occupy,
    outcomes,
    outputs,
    small,
)

pytestmark = pytest.mark.anyio


async def test_a_full_queue_refuses_with_a_time_to_retry(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=25_000)
    occupied = await occupy(engine, scheduler, small("first", px=10_000))
    waits = scheduler.submit(small("waits", px=10_000))
    with pytest.raises(QueueFull, match="limit is 25000") as refusal:
        scheduler.submit(small("refused", px=10_000))
    assert refusal.value.retry_after_s == 50  # 5,000 px at 0.01 s each
    engine.gate.set()
    assert await outputs(occupied, waits, scheduler.submit(small("later"))) == [["FIRST"], ["WAITS"], ["LATER"]]


async def test_a_job_that_cannot_meet_its_deadline_is_refused_at_once(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first", px=1000))  # 10 s
    with scheduler.reserve(small("prepared", px=1000)):  # 10 more
        with pytest.raises(QueueFull, match=r"finish in about 30 s.* deadline is in 12 s") as refusal:
            scheduler.submit(small("refused", px=1000, deadline_s=engine.clock() + 12))
        assert refusal.value.retry_after_s == 6  # the prediction may be twice too long
    in_time = scheduler.submit(small("taken", px=1000, deadline_s=engine.clock() + 25))
    engine.gate.set()
    assert await outputs(occupied, in_time) == [["FIRST"], ["TAKEN"]]


async def test_a_small_job_has_time_next_to_large_ones(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    poster = await occupy(engine, scheduler, large("poster", px=10**5))  # 1,000 s
    avatar = scheduler.submit(small("avatar", deadline_s=engine.clock() + 1.5))  # it needs 1 s, and so does the poster
    avatar.close()
    poster.close()
    engine.gate.set()


async def test_before_anything_is_learned_retry_after_is_one_second(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=100, taught=False)
    await occupy(engine, scheduler, small("first"))
    with pytest.raises(QueueFull) as refusal:
        scheduler.submit(small("refused"))
    assert refusal.value.retry_after_s == 1
    assert scheduler.backlog_s is None
    engine.gate.set()


async def test_an_idle_queue_accepts_a_job_of_any_size(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=250)
    assert len(await all_parts(scheduler.submit(large("poster")))) == 4


async def test_cancelled_jobs_make_room(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=250)
    occupied = await occupy(engine, scheduler, small("first"))
    scheduler.submit(small("leaves")).close()
    stays = scheduler.submit(small("stays"))
    engine.gate.set()
    await outputs(occupied, stays)


async def test_finished_bands_of_a_stream_make_room(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=1100)
    poster = await occupy(engine, scheduler, large("poster"))
    with pytest.raises(QueueFull):
        scheduler.submit(small("early"))
    engine.gate.set()
    await anext(poster)
    await outputs(scheduler.submit(small("later")), poster)


async def test_no_job_is_accepted_before_the_start(engine: FakeEngine) -> None:
    scheduler = Scheduler[FakeInput, str](engine, max_queued_px=100, max_stream_bytes=1)
    assert not scheduler.alive
    with pytest.raises(Unavailable):
        scheduler.submit(small("early"))
    await scheduler.stop(drain_s=0)


def test_a_job_without_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        small("nothing", px=0)


async def test_a_job_whose_deadline_passes_in_the_queue_never_reaches_the_device(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first", px=1000))
    late = scheduler.submit(small("late", deadline_s=engine.clock() + 5))
    in_time = scheduler.submit(small("in time", deadline_s=engine.clock() + 15))
    engine.gate.set()
    first, too_late, good = await outcomes(occupied, late, in_time)
    assert (first, good) == (["FIRST"], ["IN TIME"])
    assert isinstance(too_late, DeadlinePassed)
    assert engine.pieces == [["first"], ["in time"]]
    assert late.outcome is Outcome.EXPIRED


async def test_a_job_fails_at_its_deadline_whatever_the_device_does(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, taught=False)  # otherwise the late job would be refused
    occupied = await occupy(engine, scheduler, small("first"))
    late = scheduler.submit(small("late", deadline_s=engine.clock() + 0.01))  # its timer is on the loop's clock
    with pytest.raises(DeadlinePassed, match="0 of 100 px"):
        await all_parts(late)
    assert not engine.gate.is_set()
    engine.gate.set()
    await outputs(occupied)


async def test_a_deadline_that_passes_between_bands_ends_the_stream(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)  # a band takes 2.56 s
    poster = scheduler.submit(large("poster", deadline_s=engine.clock() + 5))
    with pytest.raises(DeadlinePassed, match="512 of 1024 px"):
        await all_parts(poster)
    await all_parts(scheduler.submit(small("next")))
    assert engine.pieces == [["poster"], ["poster"], ["next"]]
    assert engine.closed == ["poster"]


async def test_a_deadline_ends_an_unread_stream(engine: FakeEngine) -> None:
    scheduler = Scheduler[FakeInput, str](engine, max_queued_px=10**6, max_stream_bytes=1)
    scheduler.start()
    poster = scheduler.submit(large("poster", px=10**5, deadline_s=time.monotonic() + 0.02))
    waits = scheduler.submit(large("waits"))
    assert len(await all_parts(waits)) == 1
    assert poster.outcome is Outcome.EXPIRED


async def test_a_deadline_that_passes_after_the_end_changes_nothing(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    ticket = scheduler.submit(small("a", deadline_s=engine.clock() + 2))
    await all_parts(scheduler.submit(small("b", bucket="other")))
    engine.clock.now_s += 10
    await all_parts(scheduler.submit(small("c")))
    assert await all_parts(ticket) == ["A"]


async def test_among_waiting_jobs_the_earliest_deadline_runs_first(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    now_s = engine.clock()
    due = (("a", None), ("b", now_s + 200), ("c", now_s + 100))
    tickets = [scheduler.submit(small(name, bucket=name, deadline_s=deadline_s)) for name, deadline_s in due]
    engine.gate.set()
    await outputs(occupied, *tickets)
    assert engine.pieces == [["first"], ["c"], ["b"], ["a"]]


async def test_stopping_finishes_what_was_accepted_and_refuses_the_rest(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = scheduler.submit(small("waits")), scheduler.submit(large("poster", px=256))
    stopping = asyncio.create_task(scheduler.stop(drain_s=10))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refusal:
        scheduler.submit(small("late"))
    assert refusal.value.members == {"state": "draining"}
    engine.gate.set()
    await stopping
    assert await outputs(occupied, *tickets) == [["FIRST"], ["WAITS"], ["poster0"]]
    assert not scheduler.alive


async def test_jobs_not_finished_within_the_drain_deadline_fail(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, large("first"))
    waits = scheduler.submit(small("waits"))
    await scheduler.stop(drain_s=0)
    engine.gate.set()
    assert [type(outcome) for outcome in await outcomes(occupied, waits)] == [Unavailable, Unavailable]
    await asyncio.to_thread(scheduler._device._pool.shutdown)
    assert engine.pieces == [["first"]]
    assert engine.closed == ["first"]


async def test_an_idle_scheduler_stops_at_once(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    await scheduler.stop(drain_s=10)
    assert not scheduler.alive


async def test_the_counters_count_what_happened(engine: FakeEngine) -> None:
    engine.breaks = {"bad": 0}
    scheduler = make_scheduler(engine, max_queued_px=3000)
    occupied = await occupy(engine, scheduler, small("first"))
    padded = Job(input=FakeInput(name="a", px=60), cost_px=60, padding_px=20, kind="net", bucket="bucket")
    tickets = [scheduler.submit(padded), scheduler.submit(small("b")), scheduler.submit(large("poster"))]
    bad = scheduler.submit(small("bad", bucket="other"))
    late = scheduler.submit(small("late", deadline_s=engine.clock()))
    scheduler.submit(small("leaves")).close()
    with pytest.raises(QueueFull):
        scheduler.submit(small("refused", px=9000))
    waiting = scheduler.counters()
    assert (waiting.queued, waiting.queued_px, waiting.running_px) == (6, 1484, 100)
    assert waiting.backlog_s == pytest.approx(14.84)
    engine.gate.set()
    await outcomes(occupied, *tickets, bad, late)
    ended = scheduler.counters()
    assert (ended.queued, ended.queued_px, ended.open_streams, ended.backlog_s) == (0, 0, 0, 0)
    assert (ended.batches, ended.batched_jobs, ended.batched_px, ended.padding_px) == (3, 4, 360, 20)
    assert (ended.done_px, ended.refused) == (100 + 160 + 1024, 1)
    assert ended.device_s == pytest.approx(1 + 1.6 + 1 + 10.24)
    assert ended.outcomes == {Outcome.DONE: 4, Outcome.FAILED: 1, Outcome.EXPIRED: 1, Outcome.WITHDRAWN: 1}


async def test_a_copy_of_the_counters_does_not_change(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    before = scheduler.counters()
    await all_parts(scheduler.submit(small("a")))
    assert before.outcomes == {}
    assert scheduler.counters().outcomes == {Outcome.DONE: 1}
