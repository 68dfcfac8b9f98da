"""The format of an answer: accepted by the caller, and able to hold the picture."""

import io

import httpx
import numpy
import pytest
import pyvips
from PIL import Image

from app.http.accept import accepted_formats
from app.pictures.encode import writable_formats
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
        (CHROME_PAGE, ["webp", "avif", "png", "jpeg"]),
        (CHROME_IMAGE, ["png", "webp", "jpeg", "avif"]),
        (FIREFOX_PAGE, ["png", "webp", "avif", "jpeg"]),
        (FIREFOX_IMAGE, ["png", "webp", "avif", "jpeg"]),
        (SAFARI_PAGE, ["png", "webp", "jpeg", "avif"]),
        (SAFARI_IMAGE, ["png", "webp", "avif", "jpeg"]),
        ("image/jpeg, image/png;q=.9", ["png", "jpeg"]),
        ("image/jpeg, image/png;q=0.9", ["jpeg", "png"]),
        ('image/png;a="x, image/webp;q=1";q=0.1, image/jpeg;q=0.2', ["jpeg", "png"]),
        ('image/webp;a="', ["webp"]),
        ("IMAGE/WEBP ; Q=0.5 , image / jpeg", ["jpeg", "webp"]),
    ],
)
def test_accepted_formats_are_in_the_order_of_their_weights(accept: str, names: list[str]) -> None:
    assert [form.name for form in accepted_formats(accept) if form.name != "jxl"] == names


async def form_of(client: httpx.AsyncClient, picture: bytes, accept: str, query: str = "") -> str:
    answer = await client.post(f"/v1/upscale{query}", content=picture, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    media_type: str = answer.headers["content-type"]
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format or "").lower() == media_type.removeprefix("image/")
    return media_type.removeprefix("image/")


async def test_every_browser_gets_a_picture_too_tall_for_webp_in_another_format(client: httpx.AsyncClient) -> None:
    for accept in [*BROWSERS, "image/webp,image/png;q=0.5", "image/webp, */*;q=0.1"]:
        assert await form_of(client, TALL, accept) == ("avif" if accept == CHROME_PAGE else "png")


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
    assert await form_of(client, FILES["PNG 16 bits"](), "image/webp,image/avif;q=0.5") == "avif"  # of 12 bits


async def test_a_requested_format_is_used_whatever_it_loses(client: httpx.AsyncClient) -> None:
    for name in (form.name for form in writable_formats()):
        for picture in (FILES["PNG 16 bits"](), encoded(noise(5, 5, mode="RGBA"))):
            assert await form_of(client, picture, CHROME_PAGE, f"?format={name}") == name


@pytest.mark.parametrize(
    ("name", "kind"), [("jpg", "jpeg"), ("JPG", "jpeg"), ("JPEG", "jpeg"), ("PNG", "png"), ("WebP", "webp")]
)
async def test_formats_have_the_names_of_files_in_either_case(client: httpx.AsyncClient, name: str, kind: str) -> None:
    picture = encoded(noise(5, 5))
    assert await form_of(client, picture, "*/*", f"?format={name}") == kind
    answer = await client.post("/v1/upscale", files={"image": picture}, data={"format": name})
    assert answer.headers["content-type"] == f"image/{kind}"


async def test_an_unknown_format_is_refused_with_the_known_ones(client: httpx.AsyncClient) -> None:
    for name in ("tiff", "", "jpgg"):
        answer = await client.post(f"/v1/upscale?format={name}", content=encoded(noise(5, 5)))
        assert "'png', 'webp', 'jpeg'" in problem(answer, 422, "unprocessable")


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


async def test_bits_choose_among_the_accepted_formats(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(5, 5))
    assert await form_of(client, upload, "image/webp, image/avif;q=0.5", "?bits=10") == "avif"
    answer = await client.post("/v1/upscale?bits=16&format=avif", content=upload)
    assert "avif has 8, 10, 12" in problem(answer, 422, "unprocessable")
    deep = await client.post("/v1/upscale?bits=16", content=upload)
    assert deep.content[24] == 16
    levels = pyvips.Image.pngload_buffer(deep.content).numpy()
    assert (levels % 257).any()  # the network's own levels, not those of 8 bits


@pytest.mark.parametrize(
    ("file_format", "form", "said"),
    [
        ("JPEG", "jpeg", None),
        ("WEBP", "webp", None),
        ("AVIF", "avif", None),
        ("TIFF", "png", "png; upload=tiff"),
        ("GIF", "png", "png; upload=gif"),
    ],
)
async def test_the_same_format_or_another_one_which_is_said(
    client: httpx.AsyncClient, file_format: str, form: str, said: str | None
) -> None:
    upload = encoded(noise(5, 5), file_format)
    answer = await client.post("/v1/upscale?format=same", content=upload, headers={"Accept": "image/jpeg"})
    assert answer.headers["content-type"] == f"image/{form}"
    assert answer.headers.get("x-format") == said


async def test_the_same_format_gives_way_to_png_where_it_cannot_hold_the_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?format=same", content=encoded(Image.new("RGB", (1, 4096)), "WEBP"))
    assert answer.headers["x-format"] == "png; upload=webp"


async def test_what_is_left_out_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?format=jpeg", content=FILES["PNG 16 bits with alpha"]())
    assert answer.headers["x-left-out"] == "transparency, bits"


async def test_a_format_that_is_not_installed_is_refused_by_name(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.pictures.encode.is_installed", lambda: False)
    answer = await client.post("/v1/upscale?format=jxl", content=encoded(noise(5, 5)))
    assert "extra `jxl`" in problem(answer, 422, "unprocessable")


async def test_small_files_are_smaller_and_have_the_same_pixels(client: httpx.AsyncClient) -> None:
    upload = encoded(Image.linear_gradient("L").resize((64, 48)).convert("RGB"))
    fast, small = [
        await client.post(f"/v1/upscale?compression={compression}", content=upload) for compression in ("fast", "small")
    ]
    assert len(small.content) < len(fast.content)
    assert (numpy.array(decoded(small)) == numpy.array(decoded(fast))).all()
