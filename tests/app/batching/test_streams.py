"""Large jobs as streams of bands: their parts, their memory, and slow readers."""

import asyncio

import pytest

from app.batching.queue import MAX_UNREAD
from app.batching.scheduler import Scheduler
from app.batching.ticket import Outcome, Ticket
from app.errors import ReadTooSlowly
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


async def run_until_held(scheduler: Scheduler[FakeInput, str], ticket: Ticket[str]) -> None:
    """Wait until an unread stream has run as far as it may."""
    while ticket.unread < MAX_UNREAD or scheduler.counters().running_px:  # noqa: ASYNC110  # no event for "no more"
        await asyncio.sleep(0)


async def test_a_stream_yields_its_parts_in_order(engine: FakeEngine) -> None:
    ticket = make_scheduler(engine).submit(large("poster"))
    assert [part async for part in ticket] == ["poster0", "poster1", "poster2", "poster3"]
    assert engine.pieces == [["poster"]] * 4


async def test_a_part_is_there_before_the_next_band_has_run(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    ticket = await occupy(engine, scheduler, large("poster"))
    engine.gate.set()
    assert await anext(ticket) == "poster0"
    assert ticket.done_px < ticket.cost_px
    assert await all_parts(ticket) == ["poster1", "poster2", "poster3"]


async def test_progress_counts_the_rows_that_went_in(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    ticket = await occupy(engine, scheduler, large("poster"))
    assert ticket.done_px == 0
    engine.gate.set()
    await anext(ticket)
    assert ticket.done_px in (256, 512, 768)
    await all_parts(ticket)
    assert ticket.done_px == ticket.cost_px


async def test_bands_without_a_part_are_no_parts(engine: FakeEngine) -> None:
    ticket = make_scheduler(engine).submit(large("poster", late_bands=2))
    assert await all_parts(ticket) == ["poster0", "poster1", "poster2", "poster3"]
    assert engine.pieces == [["poster"]] * 6


async def test_a_stream_that_raises_fails_only_its_own_request(engine: FakeEngine) -> None:
    engine.breaks = {"bad": 2}
    scheduler = make_scheduler(engine)
    bad, good = scheduler.submit(large("bad")), scheduler.submit(large("good"))
    assert await outcomes(bad, good) == [engine.error, [f"good{band}" for band in range(4)]]
    assert await outputs(scheduler.submit(small("next"))) == [["NEXT"]]
    assert "bad" in engine.closed


async def test_an_error_drops_unread_parts(engine: FakeEngine) -> None:
    engine.breaks = {"bad": 2}
    scheduler = make_scheduler(engine)
    bad = scheduler.submit(large("bad"))
    while bad.outcome is None:
        await all_parts(scheduler.submit(small("next")))
    assert bad.done_px > 0
    assert bad.unread == 0


async def test_a_stream_is_opened_run_and_closed_in_the_device_thread(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    leaves = await occupy(engine, scheduler, large("leaves"))
    leaves.close()
    engine.gate.set()
    await all_parts(scheduler.submit(small("next")))
    assert engine.closed == ["leaves"]
    assert len(engine.threads) == 1


async def test_the_stream_of_a_caller_that_left_is_closed_before_the_next_piece(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    async with await occupy(engine, scheduler, large("poster")):
        pass
    next_one = scheduler.submit(large("next"))
    engine.gate.set()
    await all_parts(next_one)
    assert engine.pieces == [["poster"]] + [["next"]] * 4
    assert engine.most_open == 1


async def test_a_stream_whose_caller_leaves_before_it_opens_never_opens(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    scheduler.submit(large("poster")).close()
    engine.gate.set()
    await outputs(occupied, scheduler.submit(small("next")))
    assert engine.bands_px == {}


async def test_two_streams_take_turns(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = scheduler.submit(large("a")), scheduler.submit(large("b"))
    engine.gate.set()
    await outputs(occupied, *tickets)
    assert engine.pieces[1:] == [["a"], ["b"]] * 4


async def test_no_more_streams_are_open_than_allowed(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=2)
    await outputs(*(scheduler.submit(large(name)) for name in "abcd"))
    assert engine.most_open == 2


async def test_open_streams_hold_no_more_memory_than_allowed(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=10)
    await outputs(*(scheduler.submit(large(f"{size}", stream_bytes=size)) for size in (6, 5, 4, 3)))
    firsts = [engine.pieces.index([name]) for name in ("6", "5", "4", "3")]
    assert firsts == sorted(firsts)  # a narrow one does not overtake a wide one that waits for room
    assert engine.pieces.index(["5"]) > max(
        reservation for reservation, piece in enumerate(engine.pieces) if piece == ["6"]
    )
    assert engine.most_open == 2


async def test_a_stream_that_exceeds_the_memory_limit_runs_alone(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=10)
    await outputs(*(scheduler.submit(large(name, stream_bytes=11)) for name in "ab"), scheduler.submit(large("c")))
    assert engine.pieces == [["a"]] * 4 + [["b"]] * 4 + [["c"]] * 4


async def test_a_short_stream_with_bands_in_flight_is_finished_once(engine: FakeEngine) -> None:
    engine.s_per_px = 1e-6  # short pieces: the second band is submitted before the first has finished
    scheduler = make_scheduler(engine, piece_s=400e-6)
    tickets = [scheduler.submit(large(name)) for name in "abcdef"]
    assert await outputs(*tickets) == [[f"{name}{band}" for band in range(4)] for name in "abcdef"]
    assert scheduler.counters().outcomes == {Outcome.DONE: 6}


async def test_a_slow_reader_delays_only_its_own_stream(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    slow = scheduler.submit(large("slow", px=256 * 20))
    await run_until_held(scheduler, slow)
    await outputs(*(scheduler.submit(small(f"{number}")) for number in range(20)), scheduler.submit(large("quick")))
    assert slow.unread == MAX_UNREAD
    assert engine.pieces.count(["slow"]) == MAX_UNREAD
    assert await all_parts(slow) == [f"slow{band}" for band in range(20)]


async def test_reading_one_part_lets_one_more_band_run(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    slow = scheduler.submit(large("slow", px=256 * 20))
    await run_until_held(scheduler, slow)
    await anext(slow)
    await run_until_held(scheduler, slow)
    assert engine.pieces.count(["slow"]) == MAX_UNREAD + 1


async def test_a_reader_that_comes_back_does_not_catch_up_on_missed_turns(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    slow = scheduler.submit(large("slow", px=256 * 20))
    await run_until_held(scheduler, slow)
    await outputs(*(scheduler.submit(small("crowd", px=100_000)) for _ in range(5)))
    occupied = await occupy(engine, scheduler, small("first", bucket="other"))
    seen = len(engine.pieces)
    rest = asyncio.create_task(all_parts(slow))
    other = scheduler.submit(large("other"))
    engine.gate.set()
    await outputs(occupied, other)
    await rest
    assert engine.pieces[seen + 1 : seen + 7].count(["other"]) >= 3


async def test_a_stalled_stream_keeps_its_memory_while_its_patience_lasts(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=1, reader_s=10_000)
    slow = scheduler.submit(large("slow", px=256 * 20))
    await run_until_held(scheduler, slow)
    waits = scheduler.submit(large("waits"))
    await all_parts(scheduler.submit(small("next")))
    assert "waits" not in engine.bands_px
    assert len(await all_parts(slow)) == 20
    assert len(await all_parts(waits)) == 4


async def test_an_unread_stream_is_ended_for_one_that_waits_for_memory(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=1)
    never = scheduler.submit(large("never", px=256 * 20))
    await run_until_held(scheduler, never)
    engine.clock.now_s += 31
    assert len(await all_parts(scheduler.submit(large("waits")))) == 4
    assert engine.closed[0] == "never"
    with pytest.raises(ReadTooSlowly, match="read too slowly"):
        await all_parts(never)


async def test_patience_counts_the_total_time_that_a_stream_was_stalled(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=1)
    drips = scheduler.submit(large("drips", px=256 * 20))
    for _ in range(4):
        await run_until_held(scheduler, drips)
        engine.clock.now_s += 10
        await anext(drips)
    await run_until_held(scheduler, drips)
    scheduler.submit(large("waits"))
    (outcome,) = await outcomes(drips)
    assert isinstance(outcome, ReadTooSlowly)


async def test_a_slow_reader_is_tolerated_while_its_memory_is_not_needed(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=1)
    slow = scheduler.submit(large("slow", px=256 * 20))
    await run_until_held(scheduler, slow)
    engine.clock.now_s += 1000
    await all_parts(scheduler.submit(small("next")))
    assert len(await all_parts(slow)) == 20


async def test_patience_runs_out_without_any_other_event(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=1, reader_s=0.01)
    never = scheduler.submit(large("never", px=256 * 20))
    await run_until_held(scheduler, never)
    waits = scheduler.submit(large("waits"))
    for _ in range(10):
        await asyncio.sleep(0)
    engine.clock.now_s += 1  # only the scheduler's own timeout wakes it
    assert len(await all_parts(waits)) == 4


async def test_the_event_loop_does_not_spin_while_the_device_is_busy_and_a_stream_must_end(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, max_streams=1)
    never = scheduler.submit(large("never", px=256 * 20))
    await run_until_held(scheduler, never)
    occupied = await occupy(engine, scheduler, small("first"))
    engine.clock.now_s += 31
    waits = scheduler.submit(large("waits"))
    reads = engine.clock.reads
    for _ in range(100):
        await asyncio.sleep(0)
    assert engine.clock.reads - reads <= 3
    engine.gate.set()
    await outputs(occupied, waits)


async def test_the_height_of_bands_is_chosen_when_the_stream_opens(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)  # 400 px are a piece
    await all_parts(scheduler.submit(large("poster", px=30 * 40, row_px=30)))
    assert engine.bands_px == {"poster": 30 * 12}  # not 13, so that there are few shapes


@pytest.mark.parametrize(
    ("rows", "band"), [(1, 1), (2, 2), (3, 3), (5, 4), (7, 6), (11, 8), (15, 12), (16, 16), (23, 16), (24, 24)]
)
async def test_bands_of_one_width_have_few_shapes(engine: FakeEngine, rows: int, band: int) -> None:
    scheduler = make_scheduler(engine)
    engine.max_piece_px = 10 * rows
    await all_parts(scheduler.submit(large("poster", px=10 * 40, row_px=10)))
    assert engine.bands_px == {"poster": 10 * band}


async def test_a_band_is_at_least_one_row(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    engine.max_piece_px = 10
    assert len(await all_parts(scheduler.submit(large("wide", px=3000, row_px=1000)))) == 3


async def test_a_band_has_the_minimum_rows_of_its_job(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)  # 400 px are a piece
    await all_parts(scheduler.submit(large("wide", px=20 * 300, row_px=300, min_rows=8)))
    assert engine.bands_px == {"wide": 8 * 300}


async def test_a_new_stream_respects_the_memory_limit(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    engine.max_piece_px = 100
    await all_parts(scheduler.submit(large("poster", row_px=4)))
    assert engine.bands_px == {"poster": 96}
