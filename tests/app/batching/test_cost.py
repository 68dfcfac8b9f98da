"""The cost model learns from noisy measurements, sizes pieces, and predicts waits."""

import random

import pytest

from app.batching.cost import MAX_LINES, CostModel, LinearFit
from app.batching.job import Job
from app.errors import QueueFull
from tests.app.batching.engine import FakeEngine, FakeInput, all_parts, large, make_scheduler, occupy, outputs, small

pytestmark = pytest.mark.anyio

SIZES_PX = (4_000, 16_000, 64_000, 250_000)


def device_s(px: int) -> float:
    """A device that takes 5 ms per piece and 0.1 s per million px."""
    return 0.005 + px * 1e-7


def learned(
    pieces: int, *, noise: float = 0.0, slower: float = 1.0, line: LinearFit | None = None, seed: int = 0
) -> LinearFit:
    """Make a line that has learned from pieces of several sizes."""
    line, rng = line or LinearFit(), random.Random(seed)
    for _ in range(pieces):
        px = rng.choice(SIZES_PX)
        line.add(px, slower * device_s(px) * rng.lognormvariate(0, noise))
    return line


def test_without_noise_a_few_pieces_of_two_sizes_determine_both_parameters() -> None:
    line = learned(20)
    assert line.fixed_s == pytest.approx(0.005, rel=0.05)
    assert line.seconds_per_px == pytest.approx(1e-7, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_with_noise_predictions_are_close(seed: int) -> None:
    line = learned(100, noise=0.2, seed=seed)
    for px in SIZES_PX:
        assert line.seconds(px) == pytest.approx(device_s(px), rel=0.3)


@pytest.mark.parametrize("first_times", [50.0, 1000.0])
def test_a_slow_first_run_is_forgotten(first_times: float) -> None:
    line = LinearFit()
    line.add(16_000, first_times * device_s(16_000))
    learned(20, line=line)
    for px in SIZES_PX:
        assert line.seconds(px) == pytest.approx(device_s(px), rel=0.1)


@pytest.mark.parametrize("times", [0.001, 1000.0])
def test_one_outlier_changes_little(times: float) -> None:
    line = learned(50)
    line.add(64_000, times * device_s(64_000))
    for px in SIZES_PX:
        assert line.seconds(px) == pytest.approx(device_s(px), rel=0.5)


@pytest.mark.parametrize("slower", [4.0, 0.25])
def test_predictions_follow_a_change_of_speed(slower: float) -> None:
    line = learned(60, slower=slower, noise=0.1, line=learned(200, noise=0.1))
    for px in SIZES_PX:
        assert line.seconds(px) == pytest.approx(slower * device_s(px), rel=0.3)


def test_pieces_of_one_size_leave_the_fixed_part_at_zero() -> None:
    line = LinearFit()
    for _ in range(20):
        line.add(4000, 0.02)
    assert line.fixed_s == 0
    assert line.seconds(4000) == pytest.approx(0.02)


def test_predictions_never_fall_with_size() -> None:
    line = LinearFit()
    for px, seconds in ((1000, 0.4), (10_000, 0.2), (1000, 0.4), (10_000, 0.2)):
        line.add(px, seconds)
    assert line.seconds(10_000) >= line.seconds(1000) > 0


def test_a_piece_of_zero_seconds_is_accepted() -> None:
    line = LinearFit()
    for _ in range(10):
        line.add(100, 0.0)
    assert line.seconds(100) > 0


def test_the_size_of_a_piece_fits_its_duration() -> None:
    assert device_s(learned(50).px_within(0.02)) == pytest.approx(0.02, rel=0.1)


def test_where_the_fixed_part_exceeds_the_target_a_piece_takes_twice_the_fixed_part() -> None:
    assert device_s(learned(50).px_within(0.001)) == pytest.approx(0.010, rel=0.1)


def test_no_piece_is_many_times_larger_than_any_that_ran() -> None:
    line = LinearFit()
    line.add(1000, 1e-4)
    assert line.px_within(100.0) == 4000


def test_a_bucket_uses_the_line_of_its_kind_until_it_has_enough_samples() -> None:
    costs = CostModel()
    for _ in range(10):
        costs.observe(("net", "square"), 1000, 0.1)
    assert costs.seconds(("net", "wide"), 1000) == pytest.approx(0.1)
    costs.observe(("net", "wide"), 1000, 0.2)
    assert costs.seconds(("net", "wide"), 1000) == pytest.approx(0.1, rel=0.2)
    for _ in range(2):
        costs.observe(("net", "wide"), 1000, 0.2)
    assert costs.seconds(("net", "wide"), 1000) == pytest.approx(0.2)
    assert costs.seconds(("net", "square"), 1000) == pytest.approx(0.1)


def test_nothing_is_known_of_a_kind_that_never_ran() -> None:
    costs = CostModel()
    costs.observe(("net", "square"), 1000, 0.1)
    assert costs.seconds(("other net", "square"), 1000) is None
    assert costs.px_within(("other net", "square"), 1.0) is None


def test_the_memory_of_the_model_is_bounded_and_keeps_what_is_used() -> None:
    costs = CostModel()
    for bucket in range(2 * MAX_LINES):
        costs.observe(("net", bucket), 1000, 0.1)
        costs.observe(("net", "busy"), 1000, 0.5)
    assert len(costs._lines) == MAX_LINES
    assert costs.seconds(("net", "busy"), 1000) == pytest.approx(0.5)


def test_the_line_that_was_not_updated_for_longest_is_dropped() -> None:
    costs = CostModel()
    for bucket in (*range(MAX_LINES - 1), 0):  # and one line for all of their kind
        costs.observe(("net", bucket), 1000, 0.1)
    costs.observe(("net", "new"), 1000, 0.1)
    assert ("net", 1) not in costs._lines
    assert costs._lines.keys() >= {("net",), ("net", 0), ("net", 2), ("net", "new")}


async def test_before_anything_is_learned_pieces_are_small_and_then_they_grow(engine: FakeEngine) -> None:
    engine.s_per_px = 1e-5
    scheduler = make_scheduler(engine, taught=False)
    occupied = await occupy(engine, scheduler, small("first", bucket="other", px=4000))
    tickets = [scheduler.submit(small(f"{number}", px=1000)) for number in range(200)]
    engine.gate.set()
    await outputs(occupied, *tickets)
    batches = [len(piece) for piece in engine.pieces[1:]]
    assert batches[0] <= 16
    assert max(batches) > 4 * batches[0]


async def test_the_size_of_bands_follows_the_speed_of_the_device(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, taught=False)
    for number in range(12):
        await all_parts(scheduler.submit(large(f"{number}", px=8000, row_px=10)))
    assert engine.bands_px["0"] == 10 * 384  # before any measurement
    assert engine.bands_px["11"] == 10 * 32  # 4 s at 0.01 s per px are 40 rows


async def test_a_stream_that_yields_only_at_its_end_teaches_the_mean_of_its_bands(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, taught=False)
    await all_parts(scheduler.submit(large("low", px=256, row_px=8, late_bands=2)))
    assert scheduler.costs.seconds(("net", None), 1000) == pytest.approx(10.0)


async def test_bands_that_only_fill_the_network_teach_nothing(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine, piece_s=1.0)
    await all_parts(scheduler.submit(large("poster", late_bands=3)))
    assert scheduler.costs.seconds(("net", None), 1000) == pytest.approx(10.0, rel=0.01)


async def test_a_band_that_was_prepared_for_a_stream_that_failed_teaches_nothing(engine: FakeEngine) -> None:
    engine.s_per_px = 1e-6
    engine.breaks = {"bad": 0}
    scheduler = make_scheduler(engine)
    bad = await occupy(engine, scheduler, large("bad"))
    assert scheduler.counters().running_px == 2048
    engine.gate.set()
    scheduler._device.submit(int).result(60)  # both bands have run before the event loop knows of the first
    with pytest.raises(ArithmeticError):
        await all_parts(bad)
    await all_parts(scheduler.submit(small("next")))
    assert scheduler.costs.seconds(("net", None), 1000) == pytest.approx(1e-3, rel=0.01)


async def test_kinds_that_never_ran_are_predicted_to_take_what_the_others_take(engine: FakeEngine) -> None:
    scheduler = make_scheduler(engine)
    occupied = await occupy(engine, scheduler, small("first"))
    job = FakeInput(name="strange", px=300)
    strange = scheduler.submit(Job(input=job, cost_px=300, kind="new net", bucket="bucket"))
    assert scheduler.backlog_s == pytest.approx(4.0)
    engine.gate.set()
    await outputs(occupied, strange)


async def test_a_piece_that_failed_teaches_nothing(engine: FakeEngine) -> None:
    engine.breaks = {"bad": 0}
    scheduler = make_scheduler(engine, taught=False)
    with pytest.raises(ArithmeticError):
        await all_parts(scheduler.submit(small("bad")))
    assert scheduler.costs.seconds(("net", "bucket"), 100) is None


async def test_under_steady_load_the_predicted_wait_is_near_the_true_one(engine: FakeEngine) -> None:
    engine.fixed_s = 0.5
    rng = random.Random(0)
    scheduler = make_scheduler(engine, taught=False)
    errors: list[float] = []

    async def work_off(jobs: int) -> None:
        occupied = await occupy(engine, scheduler, small("first", px=50))
        px = [rng.choice((50, 100, 200)) for _ in range(jobs)]
        tickets = [scheduler.submit(small(f"{number}", px=size, bucket=size)) for number, size in enumerate(px)]
        predicted_s, began_s = scheduler.backlog_s, engine.clock()
        engine.gate.set()
        await outputs(occupied, *tickets)
        errors.append((predicted_s or 0.0) / (engine.clock() - began_s) - 1)

    for _ in range(12):
        engine.s_per_px = 0.01 * rng.uniform(0.8, 1.2)
        await work_off(100)
    assert max(abs(error) for error in errors[2:]) < 0.3


async def test_a_caller_that_waits_for_retry_after_finds_room(engine: FakeEngine) -> None:
    engine.fixed_s = 0.5
    scheduler = make_scheduler(engine, max_queued_px=20_000, taught=False)
    for number in range(100):  # to learn from
        await all_parts(scheduler.submit(small(f"{number}", px=100 + number % 3 * 100, bucket=number % 3)))
    occupied = await occupy(engine, scheduler, small("first"))
    tickets = [scheduler.submit(small(f"{number}")) for number in range(199)]
    with pytest.raises(QueueFull) as refusal:
        scheduler.submit(small("refused", px=10_000))
    began_s = engine.clock()
    engine.gate.set()
    for ticket in (occupied, *tickets[:99]):  # 100 jobs of 100 px make the room
        await all_parts(ticket)
    assert refusal.value.retry_after_s == pytest.approx(tickets[98].queue_s + tickets[98].infer_s, rel=0.3)
    assert engine.clock() >= began_s
    await outputs(*tickets[99:])
