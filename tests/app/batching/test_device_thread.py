"""A device that is lost, hangs or ends its thread: every job is settled, and the scheduler reports the reason."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from app.batching.device_thread import MAX_LATENESS, UNKNOWN_FACTOR, DeviceThread
from app.batching.job import DeviceLost, Job
from app.batching.scheduler import Scheduler
from app.errors import Unavailable
from tests.app.batching.engine import FakeEngine, FakeInput, large, make_scheduler, occupy, outcomes, small
from tests.app.live import until
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio

HANG_S = 120.0


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    made = FakeEngine()
    yield made
    made.gate.set()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def fail(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("predicted_s", "limit_s"), [(0.25, HANG_S), (60, 60 * MAX_LATENESS), (None, HANG_S * UNKNOWN_FACTOR)]
)
def test_a_call_hangs_once_it_is_far_past_its_prediction(
    predicted_s: float | None, limit_s: float, clock: ManualClock
) -> None:
    thread, gate, entered = DeviceThread(hang_s=HANG_S, clock=clock), threading.Event(), threading.Event()
    idle = thread.check_in_s
    assert idle is None

    def call() -> None:
        entered.set()
        assert gate.wait(60)

    future = thread.submit(call, "a piece", predicted_s=predicted_s)
    assert entered.wait(60)
    clock.now_s += limit_s
    thread.check()
    assert thread.check_in_s == 0
    clock.now_s += 1
    with pytest.raises(DeviceLost, match=rf"a piece has run for {limit_s + 1:.0f} s; the limit was {limit_s:.0f} s"):
        thread.check()
    gate.set()
    future.result(60)
    thread.check()
    thread.shutdown()


@pytest.mark.parametrize("error", [SystemExit("gone"), KeyboardInterrupt(), MemoryError("full"), ValueError("odd")])
def test_what_would_end_a_thread_is_a_lost_device_and_an_error_stays_itself(error: BaseException) -> None:
    thread = DeviceThread(hang_s=HANG_S)

    raised = thread.submit(lambda: fail(error)).exception(60)
    assert raised is error if isinstance(error, Exception) else isinstance(raised, DeviceLost)
    thread.shutdown()


def test_a_call_that_is_waited_for_returns_or_raises_what_it_makes_of_itself() -> None:
    thread = DeviceThread(hang_s=HANG_S)
    assert thread.call(lambda: 5, "a sum") == 5
    with pytest.raises(TimeoutError, match="slow disk"):
        thread.call(lambda: fail(TimeoutError("slow disk")), "a read")
    with pytest.raises(DeviceLost, match="has died"):
        thread.call(lambda: fail(SystemExit("gone")), "a call")
    thread.shutdown()


def test_a_call_that_is_waited_for_and_hangs_is_a_lost_device() -> None:
    thread, gate = DeviceThread(hang_s=0.01), threading.Event()
    with pytest.raises(DeviceLost, match=r"the first step has run for \d+ s"):
        thread.call(lambda: gate.wait(60), "the first step")
    gate.set()
    thread.shutdown()


async def all_refused(scheduler: Scheduler[FakeInput, str]) -> None:
    """Check that the scheduler has ended and accepts no more jobs."""
    assert not scheduler.alive
    with pytest.raises(Unavailable):
        scheduler.submit(small("late"))


async def test_a_piece_that_hangs_ends_the_scheduler_and_answers_everybody(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    told: list[Exception | None] = []
    scheduler.on_failure = lambda: told.append(scheduler.failure)
    running = await occupy(engine, scheduler, small("stuck"))
    waiting = scheduler.submit(large("waiting"))
    engine.clock.now_s += HANG_S - 1
    scheduler.submit(small("early"))  # wakes the scheduler, as its timeout would
    for _ in range(10):
        await asyncio.sleep(0)
    assert scheduler.alive
    engine.clock.now_s += 2
    scheduler.submit(small("late"))
    assert [type(outcome) for outcome in await outcomes(running, waiting)] == [Unavailable, Unavailable]
    assert isinstance(scheduler.failure, DeviceLost)
    assert "a piece of 100 px has run for 121 s" in str(scheduler.failure)
    assert told == [scheduler.failure]
    await all_refused(scheduler)


async def test_a_hang_is_noticed_without_any_other_event(engine: FakeEngine) -> None:
    scheduler = Scheduler[FakeInput, str](engine, max_queued_px=1000, max_stream_bytes=1, hang_s=0.01)
    scheduler.costs.observe(("net", None), 1000, 1e-6)
    scheduler.start()
    await outcomes(await occupy(engine, scheduler, small("stuck")))
    assert isinstance(scheduler.failure, DeviceLost)


async def test_a_call_between_pieces_that_hangs_is_noticed_too(engine: FakeEngine) -> None:
    scheduler = Scheduler[FakeInput, str](engine, max_queued_px=1000, max_stream_bytes=1, hang_s=0.001)
    scheduler.start()
    gate = threading.Event()
    call = asyncio.create_task(scheduler.between_pieces(lambda: gate.wait(60)))
    await until(lambda: not scheduler.alive)
    assert isinstance(scheduler.failure, DeviceLost)
    gate.set()
    await call


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("error", [DeviceLost("cuda:0 is lost"), SystemExit("the driver is gone")])
async def test_a_lost_device_fails_its_batch_mates_and_all_that_wait(
    make: Callable[[str], Job[FakeInput]], error: BaseException, engine: FakeEngine
) -> None:
    scheduler = make_scheduler(engine)
    engine.broken, engine.error = {"first"}, error
    jobs = [scheduler.submit(make(name)) for name in ("first", "second", "third")]
    for outcome in await outcomes(*jobs):
        assert isinstance(outcome, Unavailable)
    assert isinstance(scheduler.failure, DeviceLost)
    assert len(engine.pieces) == 1  # nothing was retried on it
    await all_refused(scheduler)


@pytest.mark.parametrize("error", [DeviceLost("cuda:0 is lost"), SystemExit("the driver is gone")])
async def test_a_load_that_finds_the_device_lost_ends_the_scheduler(error: BaseException, engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)

    with pytest.raises(Unavailable):
        await scheduler.between_pieces(lambda: fail(error))
    await until(lambda: not scheduler.alive)
    assert isinstance(scheduler.failure, DeviceLost)


async def test_a_load_that_fails_otherwise_is_the_loaders_own_matter(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)

    with pytest.raises(ValueError, match="a bad file"):
        await scheduler.between_pieces(lambda: fail(ValueError("a bad file")))
    assert await outcomes(scheduler.submit(small("a"))) == [["A"]]
    await scheduler.stop(drain_s=10)
    assert scheduler.failure is None
