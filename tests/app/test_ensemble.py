"""`ensemble=true`: the mean over a picture's turns, which costs eight times its px."""

import asyncio
import io
import itertools
import logging

import httpx
import numpy
import pytest
from PIL import Image

from app.options import UpscaleOptions
from app.pictures.decode import Header
from app.service import UpscaleService
from model.ensemble import ensemble_batch
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.live import until

pytestmark = pytest.mark.anyio

URL = "/v1/upscale?ensemble=true"
SIZES = ((13, 9), (61, 20))
"""Sizes of an ensemble that runs whole, and of one that is a stream."""


def largest_difference(made: Image.Image, other: object) -> int:
    return int(numpy.abs(numpy.asarray(made).astype(int) - numpy.asarray(other)).max())


async def test_the_answer_is_the_mean_of_eight_turned_runs(client: httpx.AsyncClient, service: UpscaleService) -> None:
    for size in SIZES:
        image = noise(*size)
        made = decoded(await client.post(URL, content=encoded(image)))
        async with service.library.lease("tiny") as network:
            (expected,) = ensemble_batch(network.upscaler, [numpy.array(image)[None]])
        assert largest_difference(made, expected[0]) <= 1
        single = decoded(await client.post("/v1/upscale", content=encoded(image)))
        assert largest_difference(single, expected[0]) > 1


async def test_it_costs_eight_times_the_px(client: httpx.AsyncClient, service: UpscaleService) -> None:
    for size in SIZES:
        costs_px = []
        for url in ("/v1/upscale", URL):
            before_px = service.scheduler.counters().done_px
            decoded(await client.post(url, content=encoded(noise(*size))))
            costs_px.append(service.scheduler.counters().done_px - before_px)
        assert costs_px[1] == 8 * costs_px[0] > 0
    assert service.scheduler.counters().queued_px == 0


async def test_it_waits_in_the_queue_at_its_full_cost(
    client: httpx.AsyncClient, service: UpscaleService, blocked: BlockedDevice
) -> None:
    first = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(8, 8))))
    await blocked.at_work()
    before_px = service.scheduler.counters().queued_px
    second = asyncio.create_task(client.post(URL, content=encoded(noise(61, 20))))
    await until(lambda: service.scheduler.counters().queued_px > before_px)
    assert service.scheduler.counters().queued_px - before_px == 8 * 61 * 20
    blocked.gate.set()
    for answer in (await first, await second):
        assert answer.status_code == 200


async def test_it_is_logged(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "app.access"):
        await client.post(URL, content=encoded(noise(5, 4)))
        await client.post("/v1/upscale", content=encoded(noise(5, 4)))
    lines = [vars(record)["fields"] for record in caplog.records if record.name == "app.access"]
    assert [line.get("runs") for line in lines] == [8, None]


async def test_grey_and_transparency_are_kept(client: httpx.AsyncClient) -> None:
    for (width, height), mode in itertools.product(SIZES, ("RGBA", "L", "LA")):
        made = decoded(await client.post(URL, content=encoded(noise(width, height, mode=mode))))
        assert (made.mode, made.size) == (mode, (4 * width, 4 * height))


async def test_16_bits_are_kept_and_agree_with_8_bits(client: httpx.AsyncClient) -> None:
    for size in SIZES:
        image = noise(*size, mode="L")
        deep = Image.fromarray(numpy.asarray(image).astype(numpy.uint16) * 257)
        made = numpy.asarray(decoded(await client.post(URL, content=encoded(deep)))).astype(int)
        assert len(numpy.unique(made)) > 256
        shallow = decoded(await client.post(URL, content=encoded(image)))
        assert largest_difference(shallow, (made + 128) // 257) <= 1


async def test_it_works_with_another_size_and_format_and_as_a_form_field(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/upscale",
        files={"image": encoded(noise(20, 10))},
        data={"ensemble": "true", "scale": "1.5", "format": "webp", "colour_lock": "true"},
    )
    assert Image.open(io.BytesIO(answer.content)).size == (30, 15)


async def test_ensembles_and_others_of_one_size_at_once_all_get_their_own(client: httpx.AsyncClient) -> None:
    uploads = [(url, encoded(noise(12, 9, seed=seed))) for seed in range(4) for url in (URL, "/v1/upscale")]
    alone = [decoded(await client.post(url, content=upload)) for url, upload in uploads]
    together = await asyncio.gather(*(client.post(url, content=upload) for url, upload in uploads))
    for answer, expected in zip(together, alone, strict=True):
        assert largest_difference(decoded(answer), expected) <= 1


async def test_a_value_that_is_neither_true_nor_false_is_unprocessable(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(5, 5))
    for value in ("8", "much", ""):
        assert "ensemble" in problem(
            await client.post(f"/v1/upscale?ensemble={value}", content=upload), 422, "unprocessable"
        )
        answer = await client.post("/v1/upscale", files={"image": upload}, data={"ensemble": value})
        assert "ensemble" in problem(answer, 422, "unprocessable")


async def test_a_picture_that_would_be_too_wide_when_turned_is_refused(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(3, 2001))
    assert "2001 px; with ensemble" in problem(await client.post(URL, content=upload), 413, "too-large")
    decoded(await client.post("/v1/upscale", content=upload))


async def test_the_memory_of_the_sum_is_accounted_for(service: UpscaleService) -> None:
    async with service.library.lease(None) as network:
        for side in (10, 100):  # one of a batch, and a stream
            header = Header(planes=2, height=side, width=side, bits=8)
            plain, ensemble = (
                service.work(header, network.info, UpscaleOptions(ensemble=ensemble)).held_bytes(header)
                for ensemble in (False, True)
            )
            assert ensemble - plain >= 4 * 2 * 3 * (side * network.info.scale) ** 2
