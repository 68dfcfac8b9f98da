"""The fair queue: equal shares, deadlines among equals, and linear cost."""

import asyncio
import sys
from types import FrameType
from typing import Any

import pytest

from app.batching.fair_queue import NEAR_PX, FairQueue
from tests.app.batching.engine import FakeEngine, all_parts, large, make_scheduler, occupy, outputs, small

pytestmark = pytest.mark.anyio


def order(turns: FairQueue[str], px: int = 100) -> str:
    """Serve all members, each once."""
    served = ""
    while (first := turns.first()) is not None:
        turns.serve([first], [px])
        served += first
    return served


async def test_a_small_picture_waits_for_the_running_piece_of_a_large_one_and_no_more(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    poster = await occupy(engine, scheduler, large("poster", px=256 * 50))
    avatar = scheduler.submit(small("avatar"))
    engine.gate.set()
    await outputs(poster, avatar)
    assert engine.pieces[:3] == [["poster"], ["avatar"], ["poster"]]


async def test_with_short_pieces_it_waits_for_the_submitted_one_too_and_no_more(engine: FakeEngine) -> None:
    engine.s_per_px = 1e-6
    scheduler = make_scheduler(engine, piece_s=400e-6)
    poster = await occupy(engine, scheduler, large("poster", px=256 * 50))
    await asyncio.sleep(0)
    avatar = scheduler.submit(small("avatar"))
    engine.gate.set()
    await outputs(poster, avatar)
    assert engine.pieces.index(["avatar"]) <= 2


async def test_a_crowd_of_small_pictures_does_not_starve_a_large_one(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    poster = asyncio.create_task(all_parts(scheduler.submit(large("poster"))))
    small_ones = 0
    while not poster.done() and small_ones < 100:  # there is always another small one waiting
        await all_parts(scheduler.submit(small("avatar", px=4096)))
        small_ones += 1
    assert poster.done()
    assert len(await poster) == 4


def test_all_waiting_requests_get_the_same_share_whatever_their_size() -> None:
    turns: FairQueue[str] = FairQueue()
    given = {"wide": 0, "narrow": 0, "middle": 0}
    bands = {"wide": 9000, "narrow": 700, "middle": 3000}
    for name in given:
        turns.join(name, name)
    for _ in range(3000):
        first = turns.first()
        assert first is not None
        turns.serve([first], [bands[first]])
        given[first] += bands[first]
        turns.wait(first, first)
    assert max(given.values()) - min(given.values()) <= max(bands.values())


def test_a_later_request_starts_level_with_the_others_and_not_before_them() -> None:
    turns: FairQueue[str] = FairQueue()
    turns.join("a", "a")
    turns.join("b", "b")
    for _ in range(10):
        first = turns.first()
        assert first is not None
        turns.serve([first], [NEAR_PX])
        turns.wait(first, first)
    turns.join("late", "late")
    assert order(turns, NEAR_PX) == "lateab"


def test_work_done_while_no_other_key_waits_is_not_charged_later() -> None:
    turns: FairQueue[str] = FairQueue()
    turns.join("alone", "large")
    for number in range(9):
        turns.join(f"leaves-{number}", "small")
    turns.serve(["alone"], [10 * NEAR_PX])  # far ahead of its share
    for number in range(9):
        turns.leave(f"leaves-{number}")
    turns.wait("alone", "large")
    turns.serve(["alone"], [NEAR_PX])
    turns.wait("alone", "large")
    turns.join("x", "small")
    turns.serve(["x"], [2 * NEAR_PX])
    turns.join("y", "small")
    assert order(turns) == "aloney"


@pytest.mark.parametrize("posters", [1, 2, 3])
def test_short_lived_requests_do_not_delay_the_next_one(posters: int) -> None:
    turns: FairQueue[str] = FairQueue()
    for number in range(posters):
        turns.join(f"poster-{number}", "open")

    def serve_one(px: int) -> str:
        first = turns.first()
        assert first is not None
        turns.serve([first], [px])
        return first

    for _ in range(50):
        turns.wait(serve_one(NEAR_PX), "open")
    for _ in range(50):
        turns.wait(serve_one(NEAR_PX), "open")  # it runs when the avatar arrives
        turns.join("avatar", "small")
        bands = 0
        while (first := serve_one(4096)) != "avatar":
            turns.wait(first, "open")
            bands += 1
        assert bands < posters
        turns.leave("avatar")


def test_new_requests_run_in_the_order_of_arrival() -> None:
    turns: FairQueue[str] = FairQueue()
    for name in "abc":
        turns.join(name, name)
    assert order(turns) == "abc"


def test_among_equals_the_earliest_deadline_goes_first() -> None:
    turns: FairQueue[str] = FairQueue()
    for name, due_s in (("a", None), ("b", 20.0), ("c", 10.0), ("d", None)):
        turns.join(name, "small", due_s)
    assert order(turns) == "cbad"


def test_deadlines_do_not_starve_those_without() -> None:
    turns: FairQueue[str] = FairQueue()
    turns.join("patient", "lane")
    served: list[str] = []
    while "patient" not in served:
        turns.join(f"urgent-{len(served)}", "lane", 1.0)
        first = turns.first()
        assert first is not None
        served.append(first)
        turns.serve([first], [4096])
        turns.leave(first)
        assert len(served) <= 1 + 2 * NEAR_PX // 4096


def test_a_lane_can_be_left_out() -> None:
    turns: FairQueue[str] = FairQueue()
    turns.join("stream", "new")
    turns.join("small", "bucket")
    assert turns.first() == "stream"
    assert turns.first(skip="new") == "small"


def lines_run(jobs: int) -> int:
    """Count the lines of app/batching that the event loop runs for this many jobs that all wait at once."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if "app/batching" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    async def drain() -> None:
        engine = FakeEngine()
        engine.s_per_px = 0.5
        scheduler = make_scheduler(engine)
        occupied = await occupy(engine, scheduler, small("first"))
        tickets = [scheduler.submit(small("one", bucket=number % 10, px=2)) for number in range(jobs)]
        for ticket in tickets[::3]:
            ticket.close()
        engine.gate.set()
        await outputs(occupied, *(ticket for ticket in tickets if ticket.outcome is None))

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        asyncio.run(drain())
    finally:
        sys.settrace(before)
    return count


def test_the_cost_of_queueing_grows_linearly() -> None:
    assert lines_run(2000) < 5 * lines_run(500)
