"""The scheduler without the service: batches, callers that leave, errors."""

import asyncio
import gc
import weakref

import pytest

from app.batching.ticket import Outcome, Withdrawn
from tests.app.batching.engine import FakeEngine, all_parts, make_scheduler, occupy, outcomes, outputs, small

pytestmark = pytest.mark.anyio


async def test_an_output_comes_back_with_its_times(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    first, second = scheduler.submit(small("a")), scheduler.submit(small("b", bucket="other"))
    assert await outputs(first, second) == [["A"], ["B"]]
    assert (first.queue_s, first.infer_s) == pytest.approx((0.0, 1.0))
    assert (second.queue_s, second.infer_s) == pytest.approx((1.0, 1.0))
    assert (first.done_px, first.outcome) == (100, Outcome.DONE)


async def test_jobs_of_one_bucket_share_a_batch(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(name)) for name in "abc"]
    engine.gate.set()
    assert await outputs(occupied, *tickets) == [["FIRST"], ["A"], ["B"], ["C"]]
    assert engine.pieces == [["first"], ["a", "b", "c"]]


async def test_a_new_job_joins_the_very_next_piece(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    waits = scheduler.submit(small("waits"))
    await asyncio.sleep(0)
    comes = scheduler.submit(small("comes"))
    engine.gate.set()
    await outputs(occupied, waits, comes)
    assert engine.pieces == [["first"], ["waits", "comes"]]


async def test_jobs_of_different_buckets_never_share_a_batch(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(name, bucket=name.isupper())) for name in "aXbY"]
    engine.gate.set()
    await outputs(occupied, *tickets)
    assert engine.pieces == [["first"], ["a", "b"], ["X", "Y"]]


async def test_a_batch_takes_no_longer_than_a_piece_should(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, piece_s=3.5)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(name, px=150)) for name in "abc"]
    engine.gate.set()
    await outputs(occupied, *tickets)
    assert engine.pieces == [["first"], ["a", "b"], ["c"]]


async def test_a_batch_holds_no_more_than_the_memory_allows_now(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(name)) for name in "abcd"]
    engine.max_piece_px = 200
    engine.gate.set()
    await outputs(occupied, *tickets)
    assert engine.pieces == [["first"], ["a", "b"], ["c", "d"]]


async def test_a_job_larger_than_any_piece_runs_alone(engine: FakeEngine) -> None:
    engine.max_piece_px = 10
    assert await all_parts(make_scheduler(engine).submit(small("a", px=5000))) == ["A"]


async def test_the_device_has_its_next_piece_while_a_short_one_runs(engine: FakeEngine) -> None:
    engine.s_per_px = 1e-6
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    ahead = scheduler.submit(small("ahead"))
    await asyncio.sleep(0)
    assert scheduler.counters().running_px == 200
    late = scheduler.submit(small("late"))
    engine.gate.set()
    await outputs(occupied, ahead, late)
    assert engine.pieces == [["first"], ["ahead"], ["late"]]


async def test_a_job_cancelled_after_its_piece_was_submitted_does_not_reach_the_device(engine: FakeEngine) -> None:
    engine.s_per_px = 1e-6
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    leaves, stays = scheduler.submit(small("leaves")), scheduler.submit(small("stays"))
    await asyncio.sleep(0)
    leaves.close()
    engine.gate.set()
    await outputs(occupied, stays)
    assert engine.pieces == [["first"], ["stays"]]


async def test_sixty_four_callers_each_get_their_own_output(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    names = [f"picture-{number}" for number in range(64)]
    tickets = [scheduler.submit(small(name, bucket=number % 3)) for number, name in enumerate(names)]
    assert await outputs(*tickets) == [[name.upper()] for name in names]
    assert len(engine.pieces) < 32


async def test_the_engine_is_called_in_one_thread_only(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    await outputs(*(scheduler.submit(small(name, bucket=name)) for name in "abcdef"))
    assert len(engine.threads) == 1


async def test_a_cancelled_caller_never_reaches_the_device(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    leaves, stays = scheduler.submit(small("leaves")), scheduler.submit(small("stays"))
    reader = asyncio.create_task(anext(leaves))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait({reader})
    engine.gate.set()
    await outputs(occupied, stays)
    assert engine.pieces == [["first"], ["stays"]]
    assert leaves.outcome is Outcome.WITHDRAWN


async def test_leaving_the_block_cancels_the_job(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    async with scheduler.submit(small("leaves")) as ticket:
        pass
    assert ticket.outcome is Outcome.WITHDRAWN
    assert scheduler.counters().queued == 1
    engine.gate.set()
    await outputs(occupied)
    assert engine.pieces == [["first"]]


async def test_a_cancelled_job_does_not_look_finished(engine: FakeEngine) -> None:
    ticket = make_scheduler(engine).submit(small("a"))
    ticket.close()
    with pytest.raises(Withdrawn):
        await all_parts(ticket)


async def test_a_caller_that_leaves_while_its_batch_runs_does_not_hurt_its_batch_mates(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    engine.gate.clear()
    leaves, stays = scheduler.submit(small("leaves")), scheduler.submit(small("stays"))
    assert await asyncio.to_thread(engine.entered.wait, 60)
    leaves.close()
    engine.gate.set()
    assert await outputs(stays, scheduler.submit(small("next"))) == [["STAYS"], ["NEXT"]]
    assert engine.pieces[0] == ["leaves", "stays"]


async def test_an_output_can_be_read_once_and_the_end_many_times(engine: FakeEngine) -> None:
    ticket = make_scheduler(engine).submit(small("a"))
    assert await all_parts(ticket) == ["A"]
    assert await all_parts(ticket) == []


@pytest.mark.parametrize("leaves", [False, True])
async def test_nothing_keeps_the_picture_of_a_job_that_has_ended(engine: FakeEngine, leaves: bool) -> None:
    scheduler = make_scheduler(engine)
    gc.disable()  # a large picture must not wait for the collector
    try:
        job = small("a", deadline_s=engine.clock() + 1000)
        picture, ticket = weakref.ref(job.input), scheduler.submit(job)
        del job
        if leaves:
            ticket.close()
        await all_parts(scheduler.submit(small("b")))
        await all_parts(scheduler.submit(small("c")))
        assert ticket.outcome is not None
        assert picture() is None
    finally:
        gc.enable()


async def test_only_the_job_that_cannot_be_done_fails_not_its_batch(engine: FakeEngine) -> None:
    engine.broken = {"bad"}
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(name, bucket=bucket)) for name, bucket in (("a", 1), ("bad", 1), ("x", 2))]
    engine.gate.set()
    assert await outcomes(occupied, *tickets) == [["FIRST"], ["A"], engine.error, ["X"]]
    assert engine.pieces.count(["bad"]) == engine.pieces.count(["a"]) == 1
    assert scheduler.alive


async def test_a_transient_error_costs_a_batch_one_retry(engine: FakeEngine) -> None:
    engine.breaks = {"a": 0}
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(name)) for name in "ab"]
    engine.gate.set()
    assert await outcomes(occupied, *tickets) == [["FIRST"], ["A"], ["B"]]
    assert scheduler.counters().outcomes == {Outcome.DONE: 3}


async def test_a_batch_with_too_few_outputs_is_not_mixed_up(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    failed, other = await outcomes(scheduler.submit(small("swallowed")), scheduler.submit(small("a")))
    assert isinstance(failed, RuntimeError)
    assert str(failed) == "the engine gave 0 outputs for 1 inputs"
    assert other == ["A"]


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_when_the_device_thread_dies_every_job_fails(engine: FakeEngine, error: BaseException) -> None:
    engine.breaks, engine.error = {"deadly": 0}, error
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("deadly"))
    waits = scheduler.submit(small("waits", bucket="other"))
    engine.gate.set()
    for ticket in (occupied, waits):
        with pytest.raises(Exception, match="the service stopped"):
            await all_parts(ticket)
    await asyncio.sleep(0)
    assert not scheduler.alive
