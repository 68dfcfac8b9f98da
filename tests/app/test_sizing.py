"""The cost of a picture for the scheduler: buckets, padding and streams."""

from dataclasses import replace

import pytest

from app.batching.job import Job
from app.library.network import ModelInfo
from app.options import DEFAULT_OPTIONS, UpscaleOptions
from app.pictures.decode import Header
from app.pictures.size import Size
from app.settings import Settings
from app.sizing import NO_DEADLINE, Plan
from app.work import BUCKET_STEP_PX, MIN_BAND_ROWS, MIN_COST_PX, Work


def model(device: str) -> ModelInfo:
    return ModelInfo(
        name="net",
        sha256="0" * 64,
        scale=4,
        device=device,
        precision="float32",
        licence="",
        metrics={},
        whole_picture_px=10_000,
        state_bytes_per_column=100,
    )


def work_on(
    info: ModelInfo,
    *,
    passes: int = 1,
    options: UpscaleOptions = DEFAULT_OPTIONS,
    whole_picture_px: int | None = None,
    plan: Plan | None = None,
) -> Work:
    plan = plan or Plan(height=1, width=1, scale=info.scale, passes=passes)
    return Work(model=info, plan=plan, options=options, urgency=NO_DEADLINE, whole_picture_px=whole_picture_px)


def test_on_a_gpu_small_pictures_of_one_rounded_size_share_a_bucket_and_count_their_padding() -> None:
    first, second = (work_on(model("cuda")).job(None, (1, *shape)) for shape in ((33, 64), (64, 50)))
    assert first.cost_key == second.cost_key
    assert first.cost_px == second.cost_px == 4 * BUCKET_STEP_PX**2
    assert first.padding_px == 64 * 64 - 33 * 64


def test_on_a_cpu_small_pictures_are_not_padded_and_have_a_minimum_cost() -> None:
    tiny, small = (work_on(model("cpu")).job(None, (1, *shape)) for shape in ((2, 3), (50, 60)))
    assert tiny.cost_key == small.cost_key
    assert (tiny.cost_px, small.cost_px) == (MIN_COST_PX, 3000)


def test_a_large_picture_is_a_stream_of_rows() -> None:
    job: Job[None] = work_on(model("cuda")).job(None, (2, 1000, 300))
    assert job.bucket is None
    assert (job.cost_px, job.row_px, job.min_rows) == (600_000, 600, MIN_BAND_ROWS)
    assert job.stream_bytes == 600 * 100


def test_a_setting_overrides_the_size_from_which_pictures_are_streams() -> None:
    assert work_on(model("cpu"), whole_picture_px=2999).job(None, (1, 50, 60)).bucket is None


def test_an_ensemble_counts_every_run_and_is_as_wide_as_its_longer_side() -> None:
    job: Job[None] = work_on(model("cpu"), options=UpscaleOptions(ensemble=True)).job(None, (1, 500, 100))
    assert (job.cost_px, job.row_px) == (8 * 50_000, 500)


def test_a_further_pass_is_a_stream_that_counts_all_px_and_columns_that_are_read() -> None:
    job: Job[None] = work_on(model("cuda"), passes=2).job(None, (1, 10, 20))
    assert job.bucket is None
    assert job.cost_px == 10 * 20 + 40 * 80
    assert job.row_px == 80
    assert job.stream_bytes == (20 + 80) * 100


def test_a_stream_whose_edges_wrap_holds_twice_the_memory_and_its_margins() -> None:
    wrapping = replace(model("cuda"), wrap_margin_px=(3, 7))
    both = (UpscaleOptions(), UpscaleOptions(edges="wrap"))
    plain, wrapped = (work_on(wrapping, options=options).job(None, (2, 1000, 300)) for options in both)
    assert plain.stream_bytes == 2 * 300 * 100
    assert wrapped.stream_bytes == 2 * 2 * (300 + 2 * 7) * 100
    assert wrapped.cost_px == 2 * (1000 + 2 * 3) * (300 + 2 * 7)


@pytest.mark.parametrize(
    ("size", "passes"),
    [
        (Size(), 1),
        (Size(scale=1), 1),
        (Size(width=100), 1),
        (Size(scale=4), 1),
        (Size(scale=4.1), 2),
        (Size(scale=16), 2),
        (Size(width=99), 0),
        (Size(scale=0.5), 0),
    ],
    ids=str,
)
def test_a_size_takes_as_few_passes_as_reach_it(size: Size, passes: int) -> None:
    assert Plan.of(size, (50, 100), model("cpu"), Settings()).passes == passes


def test_memory_without_the_whole_result_does_not_depend_on_its_size() -> None:
    header = Header(planes=1, height=6000, width=1000, bits=8)
    plans = [Plan.of(Size(scale=scale), (6000, 1000), model("cpu"), Settings()) for scale in (1, 2, 3.5, 4)]
    works = [work_on(model("cpu"), plan=plan) for plan in plans]
    assert len({work.held_bytes(header) for work in works}) == 1
    held = [work.held_bytes(header, whole_answer=True) for work in works]
    assert held == sorted(held)
    assert held[1] < held[3] / 2
