"""Sizes of answers through the whole service: by scale, sides and megapixels, smaller and much larger."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import httpx
import numpy
import pytest
from PIL import Image

from app.batching.ticket import Outcome
from app.lifecycle import Lifecycle
from app.networks import DeviceEngine
from app.pictures.picture import Pixels
from app.service import UpscaleInput, UpscaleService
from app.settings import Settings
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import decoded, encoded, noise, problem, write_tiny_model
from tests.app.http.endpoints.test_jobs import ended
from tests.app.live import calling, serving, until

pytestmark = pytest.mark.anyio

TALL = noise(60, 660)


async def post(client: httpx.AsyncClient, image: Image.Image, query: str, **options: object) -> httpx.Response:
    return await client.post(f"/v1/upscale?{query}", content=encoded(image, **options))  # type: ignore[arg-type]  # Pillow's


async def test_an_answer_has_the_requested_size(client: httpx.AsyncClient) -> None:
    sizes = {
        "scale=2.5": (50, 30),
        "width=77": (77, 46),
        "height=48": (80, 48),
        "width=60&height=60": (60, 36),
        "max_side=79": (79, 47),
        "megapixels=0.0024": (63, 38),
        "width=200": (200, 120),
        "scale=16": (320, 192),
        "width=9": (9, 5),
        "scale=0.5": (10, 6),
        "width=77&colour_lock=true": (77, 46),
        "scale=5&ensemble=true": (100, 60),
        "scale=0.5&ensemble=true&colour_lock=true": (10, 6),
    }
    made = {query: decoded(await post(client, noise(20, 12), query)).size for query in sizes}
    assert made == sizes


@pytest.fixture
def x1_and_x2(models: Path) -> None:
    for scale in (1, 2):
        write_tiny_model(models, f"x{scale}", scale=scale, seed=scale)


@pytest.mark.usefixtures("x1_and_x2")
async def test_models_of_every_scale_take_the_same_sizes(client: httpx.AsyncClient) -> None:
    sizes = {"x2": {"scale=3": (60, 36), "scale=16": (320, 192)}, "x1": {"scale=0.5": (10, 6), "scale=1": (20, 12)}}
    for model, wanted in sizes.items():
        made = {query: decoded(await post(client, noise(20, 12), f"{query}&model={model}")).size for query in wanted}
        assert made == wanted
    for query in ("scale=2", "width=21"):
        detail = problem(await post(client, noise(20, 12), f"{query}&model=x1"), 422, "unprocessable")
        assert query.replace("=", " = ") in detail
        assert "does not enlarge" in detail


async def test_scale_16_is_what_the_network_makes_of_its_own_answer(client: httpx.AsyncClient) -> None:
    once = decoded(await post(client, noise(21, 13), "scale=4"))
    twice = numpy.asarray(decoded(await post(client, once, "scale=4"))).astype(int)
    made = numpy.asarray(decoded(await post(client, noise(21, 13), "scale=16")))
    assert numpy.abs(made - twice).mean() < 0.5


async def test_a_size_between_is_the_result_of_all_passes_resized(client: httpx.AsyncClient) -> None:
    largest = decoded(await post(client, noise(21, 13), "scale=16"))
    made = numpy.asarray(decoded(await post(client, noise(21, 13), "width=200"))).astype(int)
    assert numpy.abs(made - numpy.asarray(largest.resize((200, 124), Image.Resampling.LANCZOS))).mean() < 0.5


async def test_an_answer_smaller_than_the_upload_is_a_plain_resize_without_the_network(
    client: httpx.AsyncClient, service: UpscaleService
) -> None:
    image = noise(90, 60)
    made = numpy.asarray(decoded(await post(client, image, "width=40"))).astype(int)
    assert numpy.abs(made - numpy.asarray(image.resize((40, 27), Image.Resampling.LANCZOS))).max() <= 1
    assert service.scheduler.counters().done_px == 0


async def test_every_kind_of_picture_is_kept_at_every_size(client: httpx.AsyncClient) -> None:
    for mode in ("RGB", "RGBA", "L", "LA"):
        for query, width in {"width=30": 30, "width=9": 9, "width=84": 84, "width=60&colour_lock=true": 60}.items():
            for size in ((20, 12), (70, 50)):
                made = decoded(await post(client, noise(*size, mode=mode), query))
                assert (made.mode, made.width) == (mode, width)


async def test_16_bits_agree_with_8_bits_at_every_size(client: httpx.AsyncClient) -> None:
    image = noise(20, 12, mode="L")
    deep = Image.fromarray(numpy.asarray(image).astype(numpy.uint16) * 257)
    for query in ("width=30", "width=9", "scale=5"):
        made = numpy.asarray(decoded(await post(client, deep, query))).astype(int)
        assert made.max() > 255
        shallow = numpy.asarray(decoded(await post(client, image, query)))
        assert numpy.abs((made + 128) // 257 - shallow).mean() < 1


async def test_sides_are_those_of_the_upright_picture(client: httpx.AsyncClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format in ("PNG", "JPEG", "TIFF", "WEBP"):
        upload = encoded(noise(24, 16), file_format, exif=exif)
        for side, wanted in (("width", 30), ("height", 100), ("width", 10)):
            made = decoded(await client.post(f"/v1/upscale?{side}={wanted}", content=upload))
            assert getattr(made, side) == wanted
            assert abs(made.height / made.width - 24 / 16) < 0.1


async def test_impossible_sizes_are_refused_with_value_and_way_out(client: httpx.AsyncClient) -> None:
    refused = {
        "scale=2&width=40": ["scale = 2 and width = 40", "send one of"],
        "scale=17": ["scale = 17"],
        "scale=0": ["scale = 0"],
        "width=0": ["width = 0"],
        "megapixels=nan": ["megapixels"],
        "width=321": ["width = 321", "321 x 193 px", "16 times", "20 x 12"],
    }
    for query, parts in refused.items():
        for path in ("/v1/upscale", "/v1/jobs"):
            answer = await client.post(f"{path}?{query}", content=encoded(noise(20, 12)))
            detail = problem(answer, 422, "unprocessable")
            assert [part for part in parts if part not in detail] == []


async def test_a_form_field_that_contradicts_the_query_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?scale=2", files={"image": encoded(noise(9, 9))}, data={"max_side": "20"})
    assert "scale = 2 and max_side = 20" in problem(answer, 422, "unprocessable")


@pytest.mark.parametrize("settings", [{"max_answer_px": 10_000, "max_width_px": 300}], indirect=True)
async def test_answers_and_passes_beyond_a_limit_are_refused(client: httpx.AsyncClient) -> None:
    detail = problem(await post(client, noise(20, 20), "scale=5.5"), 413, "too-large")
    assert "110 x 110 px = 12100 px; the limit is 10000 px" in detail
    detail = problem(await post(client, noise(100, 4), "width=401"), 413, "too-large")
    assert "400 px wide; the limit is 300 px" in detail
    assert decoded(await post(client, noise(20, 20), "scale=5")).size == (100, 100)


async def test_the_whole_work_of_all_passes_is_counted(
    client: httpx.AsyncClient, service: UpscaleService, blocked: BlockedDevice
) -> None:
    first = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(8, 8))))
    await blocked.at_work()
    before_px = service.scheduler.counters().queued_px
    second = asyncio.create_task(post(client, noise(30, 20), "width=300"))
    await until(lambda: service.scheduler.counters().queued_px > before_px)
    assert service.scheduler.counters().queued_px - before_px == 17 * 30 * 20
    done_px = service.scheduler.counters().done_px
    blocked.gate.set()
    assert [(await answer).status_code for answer in (first, second)] == [200, 200]
    assert service.scheduler.counters().queued_px == 0
    assert service.scheduler.counters().done_px - done_px >= 17 * 30 * 20


async def test_a_job_takes_every_size(client: httpx.AsyncClient) -> None:
    accepted = await client.post("/v1/jobs?width=101", content=encoded(noise(20, 12)))
    assert accepted.status_code == 202
    await ended(client, accepted.json()["id"])
    result = await client.get(f"{accepted.headers['location']}/results/1")
    assert Image.open(io.BytesIO(result.content)).size == (101, 61)


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    large = {"max_picture_px": 10**7, "max_upload_bytes": 10**7, "send_idle_s": 60, "max_buffered_bytes": 60_000}
    return settings.model_copy(update=large | getattr(request, "param", {}))


@pytest.fixture
async def caller(service: UpscaleService) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Lifecycle.of(service)) as live, calling(live) as it:
        yield it


def holding(
    engine: DeviceEngine, service: UpscaleService, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    """Make streams wait for a gate once nine tenths of their work are done."""
    stream = engine.stream

    def watched(job: UpscaleInput, band_px: int) -> Generator[Pixels | None]:
        most_px = service.scheduler.counters().done_px
        most_px += 9 * job.planes[..., 0].size * sum(16**done for done in range(job.passes)) // 10
        for part in stream(job, band_px):
            yield part
            if service.scheduler.counters().done_px > most_px:
                assert gate.wait(60)

    monkeypatch.setattr(engine, "stream", watched)


async def test_rows_of_any_size_leave_while_the_network_is_still_at_work(
    caller: httpx.AsyncClient, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for query, image in {"scale=3.5": TALL, "width=210&colour_lock=true": TALL, "scale=6": noise(30, 330)}.items():
        gate = threading.Event()
        with monkeypatch.context() as patch:
            holding(engine, service, patch, gate)
            async with caller.stream("POST", f"/v1/upscale?{query}", content=encoded(image)) as answer:
                pieces = answer.aiter_raw()
                file = await anext(pieces)
                assert not gate.is_set()
                gate.set()
                file += b"".join([piece async for piece in pieces])
        with Image.open(io.BytesIO(file)) as made:
            made.load()


async def test_a_caller_that_leaves_cancels_all_passes(
    caller: httpx.AsyncClient, service: UpscaleService, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    holding(engine, service, monkeypatch, gate)
    async with caller.stream("POST", "/v1/upscale?scale=16", content=encoded(noise(30, 330))) as answer:
        await anext(answer.aiter_raw())
    await until(lambda: service.scheduler.counters().outcomes[Outcome.WITHDRAWN] == 1)
    gate.set()
    assert service.scheduler.counters().queued_px == 0
    await until(lambda: service.pictures.used_bytes == 0)
    assert decoded(await caller.post("/v1/upscale", content=encoded(noise(5, 5)))).size == (20, 20)
