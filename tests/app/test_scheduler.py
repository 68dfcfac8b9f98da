"""The scheduler alone, with an engine that the test holds by gates."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from app.batching.scheduler import Scheduler
from app.batching.work import Done, Work
from app.errors import QueueFull, Unavailable

pytestmark = pytest.mark.anyio


class GatedEngine:
    """Notes every piece it runs, and runs none while the gate is closed. Outputs are inputs in capitals."""

    def __init__(self) -> None:
        self.pieces: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken: set[str] = set()
        self.bands = 3
        self.open_streams = 0
        self.most_open_streams = 0

    def batch(self, inputs: Sequence[str]) -> list[str]:
        self._run(list(inputs))
        return [name.upper() for name in inputs if name != "swallowed"]

    def stream(self, work: str) -> Iterator[str | None]:
        self.open_streams += 1
        self.most_open_streams = max(self.most_open_streams, self.open_streams)
        try:
            for band in range(self.bands):
                self._run([work])
                if work != "endless":
                    yield work.upper() if band == self.bands - 1 else None
        finally:
            self.open_streams -= 1

    def _run(self, names: list[str]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        self.pieces.append(names)
        if self.broken.intersection(names):
            raise ArithmeticError(f"cannot run {names}")


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


def make_scheduler(engine: GatedEngine, *, max_queued_px: int = 10**6, max_streams: int = 2) -> Scheduler[str, str]:
    scheduler = Scheduler[str, str](engine, max_queued_px=max_queued_px, max_batch_px=400, max_streams=max_streams)
    scheduler.start()
    return scheduler


def small(name: str, *, bucket: str = "bucket", px: int = 100) -> Work[str]:
    return Work(input=name, cost_px=px, bucket=bucket, piece_px=px)


def large(name: str, *, px: int = 3000, band_px: int = 1000) -> Work[str]:
    return Work(input=name, cost_px=px, bucket=None, piece_px=band_px)


class Callers:
    """Submits works one after the other while the device is held by a first one, so that they all wait together."""

    def __init__(self, scheduler: Scheduler[str, str], engine: GatedEngine) -> None:
        self.scheduler = scheduler
        self.engine = engine

    async def hold(self, work: Work[str]) -> asyncio.Task[Done[str]]:
        """Close the gate and submit a work; returns when the device has taken it."""
        self.engine.gate.clear()
        self.engine.entered.clear()
        task = asyncio.create_task(self.scheduler.submit(work))
        assert await asyncio.to_thread(self.engine.entered.wait, 10)
        return task

    async def submit(self, *works: Work[str]) -> list[asyncio.Task[Done[str]]]:
        tasks = [asyncio.create_task(self.scheduler.submit(work)) for work in works]
        await asyncio.sleep(0)  # each runs up to its future
        return tasks


async def test_an_output_comes_back_with_its_times(engine: GatedEngine) -> None:
    done = await make_scheduler(engine).submit(small("a"))
    assert done.output == "A"
    assert done.queue_s >= 0
    assert done.infer_s >= 0


async def test_works_that_wait_in_one_bucket_share_a_batch(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    tasks = await callers.submit(small("a"), small("b"), small("c"))
    engine.gate.set()
    assert [done.output for done in await asyncio.gather(held, *tasks)] == ["FIRST", "A", "B", "C"]
    assert engine.pieces == [["first"], ["a", "b", "c"]]


async def test_works_of_different_buckets_never_share_a_batch(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    tasks = await callers.submit(small("a"), small("x", bucket="other"), small("b"), small("y", bucket="other"))
    engine.gate.set()
    await asyncio.gather(held, *tasks)
    assert engine.pieces == [["first"], ["a", "b"], ["x", "y"]]


async def test_a_batch_holds_no_more_pixels_than_its_limit(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    tasks = await callers.submit(*(small(name, px=150) for name in "abc"))
    engine.gate.set()
    await asyncio.gather(held, *tasks)
    assert engine.pieces == [["first"], ["a", "b"], ["c"]]


async def test_a_work_larger_than_a_batch_runs_alone(engine: GatedEngine) -> None:
    assert (await make_scheduler(engine).submit(small("a", px=5000))).output == "A"


async def test_a_cancelled_caller_never_reaches_the_device(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    leaves, stays = await callers.submit(small("leaves"), small("stays"))
    leaves.cancel()
    engine.gate.set()
    await asyncio.gather(held, stays)
    assert engine.pieces == [["first"], ["stays"]]


async def test_a_caller_that_leaves_while_its_batch_runs_does_not_hurt_its_batch_mates(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    engine.gate.clear()
    leaves, stays = await callers.submit(small("leaves"), small("stays"))
    assert await asyncio.to_thread(engine.entered.wait, 10)
    leaves.cancel()
    engine.gate.set()
    assert (await stays).output == "STAYS"
    assert engine.pieces == [["leaves", "stays"]]
    assert (await callers.scheduler.submit(small("next"))).output == "NEXT"


async def test_an_error_reaches_its_batch_only_and_the_next_batch_works(engine: GatedEngine) -> None:
    engine.broken = {"bad"}
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    tasks = await callers.submit(small("a"), small("bad"), small("x", bucket="other"))
    engine.gate.set()
    outcomes = await asyncio.gather(held, *tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Done, ArithmeticError, ArithmeticError, Done]
    assert callers.scheduler.alive


async def test_a_batch_with_too_few_outputs_fails_instead_of_mixing_them_up(engine: GatedEngine) -> None:
    with pytest.raises(RuntimeError, match="0 outputs for 1 inputs"):
        await make_scheduler(engine).submit(small("swallowed"))


async def test_a_stream_runs_piece_by_piece_to_its_output(engine: GatedEngine) -> None:
    assert (await make_scheduler(engine).submit(large("poster"))).output == "POSTER"
    assert engine.pieces == [["poster"]] * 3


async def test_a_stream_that_ends_without_output_is_an_error_not_a_hang(engine: GatedEngine) -> None:
    with pytest.raises(RuntimeError, match="without an output"):
        await asyncio.wait_for(make_scheduler(engine).submit(large("endless")), 10)


async def test_a_small_picture_runs_before_the_next_band_of_a_large_one(engine: GatedEngine) -> None:
    engine.bands = 10
    callers = Callers(make_scheduler(engine), engine)
    poster = await callers.hold(large("poster"))
    (avatar,) = await callers.submit(small("avatar"))
    engine.gate.set()
    await asyncio.gather(poster, avatar)
    assert engine.pieces.index(["avatar"]) <= 2


async def test_a_crowd_of_small_pictures_does_not_starve_a_large_one(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    poster = await callers.hold(large("poster"))
    engine.gate.set()
    small_ones = 0
    while not poster.done() and small_ones < 200:  # there is always another small one waiting
        await callers.scheduler.submit(small("avatar"))
        small_ones += 1
    assert poster.done()
    assert (await poster).output == "POSTER"


async def test_two_streams_take_turns(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    first = await callers.hold(large("first"))
    (second,) = await callers.submit(large("second"))
    engine.gate.set()
    await asyncio.gather(first, second)
    assert engine.pieces == [["first"], ["second"]] * 3


async def test_no_more_streams_are_open_than_allowed(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine, max_streams=1), engine)
    first = await callers.hold(large("first"))
    (second,) = await callers.submit(large("second"))
    engine.gate.set()
    await asyncio.gather(first, second)
    assert engine.most_open_streams == 1


async def test_the_stream_of_a_caller_that_left_is_closed_before_its_next_band(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    poster = await callers.hold(large("poster"))
    poster.cancel()
    engine.gate.set()
    await callers.scheduler.submit(small("next"))
    assert engine.pieces == [["poster"], ["next"]]
    assert engine.open_streams == 0


async def test_only_finished_work_teaches_the_speed_of_the_device(engine: GatedEngine) -> None:
    engine.broken = {"bad"}
    callers = Callers(make_scheduler(engine), engine)
    poster = await callers.hold(large("poster"))
    poster.cancel()
    engine.gate.set()
    with pytest.raises(ArithmeticError):
        await callers.scheduler.submit(small("bad"))
    assert callers.scheduler._px_per_s is None
    await callers.scheduler.submit(small("good"))
    await callers.scheduler.submit(small("next"))  # by now the first one has been accounted for
    assert callers.scheduler._px_per_s is not None


async def test_a_full_queue_refuses_with_a_time_to_retry(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine, max_queued_px=250), engine)
    held = await callers.hold(small("first"))
    (waits,) = await callers.submit(small("waits"))
    with pytest.raises(QueueFull, match="limit of 250") as refusal:
        await callers.scheduler.submit(small("refused"))
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s >= 1
    engine.gate.set()
    await asyncio.gather(held, waits)
    assert (await callers.scheduler.submit(small("later"))).output == "LATER"


async def test_an_idle_queue_takes_a_work_of_any_size(engine: GatedEngine) -> None:
    scheduler = make_scheduler(engine, max_queued_px=250)
    assert (await scheduler.submit(large("poster"))).output == "POSTER"


async def test_stopping_finishes_what_was_accepted_and_refuses_the_rest(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    (waits,) = await callers.submit(small("waits"))
    stopping = asyncio.create_task(callers.scheduler.stop(drain_s=10))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await callers.scheduler.submit(small("late"))
    engine.gate.set()
    await stopping
    assert [(await held).output, (await waits).output] == ["FIRST", "WAITS"]
    assert not callers.scheduler.alive


async def test_what_is_not_finished_within_the_drain_deadline_is_answered_not_forgotten(engine: GatedEngine) -> None:
    callers = Callers(make_scheduler(engine), engine)
    held = await callers.hold(small("first"))
    (waits,) = await callers.submit(small("waits"))
    await callers.scheduler.stop(drain_s=0)
    engine.gate.set()
    outcomes = await asyncio.gather(held, waits, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
