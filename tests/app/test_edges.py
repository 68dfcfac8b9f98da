"""`edges=wrap`: textures that tile, through the whole service."""

import httpx
import numpy
import pytest
from PIL import Image

from app.service import UpscaleService
from tests.app.conftest import decoded, encoded, noise, problem

pytestmark = pytest.mark.anyio

SETTINGS = [{"precision": "float32"}]
URL = "/v1/upscale?edges=wrap"
SIZES = ((13, 9), (40, 90))
"""Width and height of a picture that runs whole, and of one that is a stream."""


def rolled(image: Image.Image, down: int, right: int) -> Image.Image:
    return Image.fromarray(numpy.roll(numpy.asarray(image), (down, right), (0, 1)))


def largest_difference(made: Image.Image, other: Image.Image) -> int:
    return int(numpy.abs(numpy.asarray(made).astype(int) - numpy.asarray(other)).max())


@pytest.mark.parametrize("settings", SETTINGS, indirect=True)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("more", ["", "&ensemble=true", "&scale=2"])
async def test_the_answer_of_a_rolled_texture_is_the_rolled_answer(
    client: httpx.AsyncClient, size: tuple[int, int], more: str
) -> None:
    image, factor = noise(*size), 2 if "scale" in more else 4
    made, of_rolled = [
        decoded(await client.post(URL + more, content=encoded(each))) for each in (image, rolled(image, 5, 8))
    ]
    assert largest_difference(rolled(made, 5 * factor, 8 * factor), of_rolled) <= 1
    unwrapped = decoded(await client.post("/v1/upscale?" + more, content=encoded(image)))
    assert largest_difference(made, unwrapped) > 1


@pytest.mark.parametrize("settings", SETTINGS, indirect=True)
async def test_alpha_and_16_bits_wrap(client: httpx.AsyncClient) -> None:
    pixels = numpy.asarray(noise(20, 12, mode="RGBA")).copy()
    pixels[..., 3] |= 1  # hidden pixels have no colour of their own to be rolled
    deep = Image.fromarray(numpy.asarray(noise(20, 12, mode="L")).astype(numpy.uint16) * 257)
    for image, levels in ((Image.fromarray(pixels), 1), (deep, 257)):
        made, of_rolled = [
            decoded(await client.post(URL, content=encoded(each))) for each in (image, rolled(image, 5, 8))
        ]
        assert largest_difference(rolled(made, 20, 32), of_rolled) <= levels


async def test_a_job_wraps_as_well(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(20, 12))
    job = (await client.post("/v1/jobs?edges=wrap", content=upload)).json()
    await client.get(f"/v1/jobs/{job['id']}/events")
    result = await client.get(f"/v1/jobs/{job['id']}/result")
    assert result.content == (await client.post(URL, content=upload)).content


async def test_the_rows_that_repeat_are_counted(client: httpx.AsyncClient, service: UpscaleService) -> None:
    costs_px = []
    for url in ("/v1/upscale", URL):
        before_px = service.scheduler.counters().done_px
        decoded(await client.post(url, content=encoded(noise(40, 90))))
        costs_px.append(service.scheduler.counters().done_px - before_px)
    assert costs_px == [40 * 90, 40 * (90 + 2 * 5)]


async def test_sides_that_the_grid_of_the_model_does_not_divide_are_refused(
    client: httpx.AsyncClient, service: UpscaleService
) -> None:
    info = service.library.find("tiny").info
    assert info is not None
    object.__setattr__(info, "wrap_multiple_px", 2)  # as of a network that unshuffles
    detail = problem(await client.post(URL, content=encoded(noise(8, 7))), 422, "unprocessable")
    assert "8 x 7 px" in detail
    assert "multiples of 2" in detail
    assert (await client.post(URL, content=encoded(noise(8, 6)))).status_code == 200


async def test_a_colour_lock_does_not_wrap(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL + "&colour_lock=true", content=encoded(noise(8, 8)))
    assert "leave one of them out" in problem(answer, 422, "unprocessable")


async def test_other_values_are_refused(client: httpx.AsyncClient) -> None:
    assert "edges" in problem(await client.post("/v1/upscale?edges=round", content=b""), 422, "unprocessable")
