"""The format of an answer: chosen from what the caller accepts and what can hold the picture."""

import io

import httpx
import numpy
import pytest
from PIL import Image

from app.http.accept import accepted_formats
from app.pictures.encode import FORMATS
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.pictures.files import FILES

pytestmark = pytest.mark.anyio

CHROME_PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
CHROME_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX_PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.8"
)
FIREFOX_IMAGE = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
SAFARI_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
SAFARI_IMAGE = (
    "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,image/svg+xml,"
    "image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
)
BROWSERS = [CHROME_PAGE, CHROME_IMAGE, FIREFOX_PAGE, FIREFOX_IMAGE, SAFARI_PAGE, SAFARI_IMAGE, "*/*"]

TALL = encoded(Image.new("RGB", (1, 4096)))
"""Upscaled four times, it exceeds WebP's 16,383 px."""


@pytest.mark.parametrize(
    ("accept", "names"),
    [
        (CHROME_PAGE, ["webp", "png", "jpeg"]),
        (CHROME_IMAGE, ["png", "webp", "jpeg"]),
        (FIREFOX_PAGE, ["png", "webp", "jpeg"]),
        (FIREFOX_IMAGE, ["png", "webp", "jpeg"]),
        (SAFARI_PAGE, ["png", "webp", "jpeg"]),
        (SAFARI_IMAGE, ["png", "webp", "jpeg"]),
        ("image/jpeg, image/png;q=.9", ["png", "jpeg"]),
        ("image/jpeg, image/png;q=0.9", ["jpeg", "png"]),
        ('image/png;a="x, image/webp;q=1";q=0.1, image/jpeg;q=0.2', ["jpeg", "png"]),
        ('image/webp;a="', ["webp"]),
        ("IMAGE/WEBP ; Q=0.5 , image / jpeg", ["jpeg", "webp"]),
    ],
)
def test_accepted_formats_are_in_the_order_of_their_weights(accept: str, names: list[str]) -> None:
    assert [form.name for form in accepted_formats(accept)] == names


async def form_of(client: httpx.AsyncClient, picture: bytes, accept: str, query: str = "") -> str:
    answer = await client.post(f"/v1/upscale{query}", content=picture, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    media_type: str = answer.headers["content-type"]
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format or "").lower() == media_type.removeprefix("image/")
    return media_type.removeprefix("image/")


async def test_every_browser_gets_a_picture_too_tall_for_webp_as_png(client: httpx.AsyncClient) -> None:
    for accept in [*BROWSERS, "image/webp,image/png;q=0.5", "image/webp, */*;q=0.1"]:
        assert await form_of(client, TALL, accept) == "png"


async def test_a_picture_too_tall_for_webp_goes_to_the_next_accepted_format(client: httpx.AsyncClient) -> None:
    assert await form_of(client, TALL, "image/webp,image/jpeg;q=0.5,image/png;q=0.1") == "jpeg"


async def test_a_smaller_answer_that_fits_keeps_the_preferred_format(client: httpx.AsyncClient) -> None:
    assert await form_of(client, TALL, CHROME_PAGE, "?scale=3.99") == "webp"


@pytest.mark.parametrize(
    ("query", "accept"), [("?format=webp", "*/*"), ("?format=webp", "image/png"), ("", "image/webp")]
)
async def test_a_picture_too_large_for_the_only_accepted_format_is_refused(
    client: httpx.AsyncClient, query: str, accept: str
) -> None:
    answer = await client.post(f"/v1/upscale{query}", content=TALL, headers={"Accept": accept})
    detail = problem(answer, 422, "unprocessable")
    assert "4 x 16384 px" in detail
    assert "format=png" in detail


async def test_every_browser_gets_a_16_bit_answer_to_a_16_bit_upload(client: httpx.AsyncClient) -> None:
    for accept in BROWSERS:
        answer = await client.post("/v1/upscale", content=FILES["PNG 16 bits"](), headers={"Accept": accept})
        assert answer.headers["content-type"] == "image/png"
        assert answer.content[24] == 16


async def test_transparency_goes_to_a_format_that_has_it(client: httpx.AsyncClient) -> None:
    clear = encoded(noise(5, 5, mode="RGBA"))
    assert await form_of(client, clear, "image/jpeg,image/png;q=.9,image/webp;q=0.9") in {"png", "webp"}
    assert await form_of(client, clear, "image/jpeg,image/webp;q=0.9,image/png;q=0.5") == "webp"
    assert await form_of(client, encoded(noise(5, 5)), "image/jpeg,image/png;q=0.9") == "jpeg"


async def test_where_only_lossy_formats_are_accepted_the_one_that_loses_least_is_taken(
    client: httpx.AsyncClient,
) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 256, (5, 5, 4), dtype=numpy.uint8)
    clear = encoded(Image.fromarray(pixels))
    assert await form_of(client, clear, "image/jpeg") == "jpeg"
    assert await form_of(client, FILES["PNG 16 bits"](), "image/jpeg,image/webp;q=0.5") == "jpeg"
    assert await form_of(client, clear, "image/jpeg,image/webp;q=0.5") == "webp"


async def test_a_requested_format_is_used_whatever_it_loses(client: httpx.AsyncClient) -> None:
    for name in FORMATS:
        for picture in (FILES["PNG 16 bits"](), encoded(noise(5, 5, mode="RGBA"))):
            assert await form_of(client, picture, CHROME_PAGE, f"?format={name}") == name


async def test_halves_of_a_pixel_are_rounded_up(client: httpx.AsyncClient) -> None:
    for scale, size in {"1.5": (71, 74), "2.5": (118, 123), "1.1": (52, 54), "3.5": (165, 172)}.items():
        answer = await client.post(f"/v1/upscale?scale={scale}", content=encoded(noise(47, 49)))
        assert decoded(answer).size == size
        for form in ("webp", "jpeg"):
            answer = await client.post(f"/v1/upscale?scale={scale}&format={form}", content=encoded(noise(47, 49)))
            assert Image.open(io.BytesIO(answer.content)).size == size


async def test_a_parameter_given_twice_is_refused_by_its_name(client: httpx.AsyncClient) -> None:
    for query in ("scale=2&scale=4", "scale=2&scale=2", "model=tiny&format=png&model=", "fidelity=0&fidelity=0"):
        answer = await client.post(f"/v1/upscale?{query}", content=encoded(noise(5, 5)))
        name = query.split("=")[0]
        assert f"{name!r} is given more than once" in problem(answer, 400, "bad-request")
