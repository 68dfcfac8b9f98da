"""POST /v1/upscale through the whole service."""

import asyncio
import io
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy
import pytest
from PIL import Image

from app.networks import DeviceEngine
from app.pictures.picture import Picture, Pixels
from app.pictures.postprocess import Postprocessor
from app.service import UpscaleInput, UpscaleService
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.pictures.files import FILES

pytestmark = pytest.mark.anyio


async def upscale(client: httpx.AsyncClient, image: Image.Image) -> Image.Image:
    return decoded(await client.post("/v1/upscale", files={"image": encoded(image)}))


async def test_a_multipart_upload_comes_back_scale_times_larger(client: httpx.AsyncClient) -> None:
    assert (await upscale(client, noise(13, 9))).size == (52, 36)


async def test_a_raw_body_gives_the_same_answer_as_multipart(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(13, 9))
    raw = await client.post("/v1/upscale", content=upload)
    form = await client.post("/v1/upscale", files={"image": upload})
    assert raw.status_code == 200
    assert raw.content == form.content


async def test_the_answer_is_the_output_of_the_network(client: httpx.AsyncClient, service: UpscaleService) -> None:
    image = noise(13, 9)
    answer = await upscale(client, image)
    async with service.library.lease("tiny") as network:
        (expected,) = network.upscaler.batch([numpy.array(image)[None]])
    assert (numpy.array(answer) == expected[0]).all()


async def test_a_jpeg_is_upscaled_too(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", files={"image": encoded(noise(13, 9), "JPEG")})
    assert decoded(answer).size == (52, 36)


async def test_a_large_picture_streams_to_the_same_result_as_a_whole_one(
    client: httpx.AsyncClient, service: UpscaleService
) -> None:
    image = noise(100, 61)  # larger than whole_picture_px
    answer = await upscale(client, image)
    async with service.library.lease("tiny") as network:
        (expected,) = network.upscaler.batch([numpy.array(image)[None]])
    assert numpy.abs(numpy.array(answer).astype(int) - expected[0]).max() <= 1


async def test_transparency_is_kept(client: httpx.AsyncClient) -> None:
    assert (await upscale(client, noise(13, 9, mode="RGBA"))).mode == "RGBA"


ROADS = ["", "scale=16", "scale=3", "scale=0.5", "ensemble=true", "edges=wrap", "colour_lock=true", "bits=16"]
"""Options that change how a picture goes through the network."""

SIZES = ((13, 9), (40, 30))
"""Width and height of a picture that runs whole, and of one that is a stream."""

STREAMS = pytest.mark.parametrize("settings", [{"whole_picture_px": 1_000}], indirect=True)


@STREAMS
@pytest.mark.parametrize("road", ROADS)
async def test_grey_in_three_channels_stays_grey(client: httpx.AsyncClient, road: str) -> None:
    for size in SIZES:
        image = noise(*size, mode="L").convert("RGB")
        answer = numpy.array(decoded(await client.post(f"/v1/upscale?{road}", content=encoded(image))))
        assert (answer == answer[..., :1]).all()


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
async def test_grey_in_three_channels_stays_grey_in_every_format(client: httpx.AsyncClient, form: str) -> None:
    image = noise(13, 9, mode="L").convert("RGB")
    made = await client.post(f"/v1/upscale?format={form}&quality=90", content=encoded(image))
    with Image.open(io.BytesIO(made.content)) as answer:
        assert answer.mode == "RGB"
        assert numpy.ptp(numpy.array(answer).astype(int), axis=-1).max() <= 2


@STREAMS
@pytest.mark.parametrize("road", ROADS)
async def test_flat_alpha_stays_itself_on_every_road(client: httpx.AsyncClient, road: str) -> None:
    for width, height in SIZES:
        pixels = numpy.array(noise(width, height, mode="RGBA"))
        pixels[..., 3] = 0
        pixels[2:7, 2:7, 3] = 90
        answer = decoded(await client.post(f"/v1/upscale?{road}", content=encoded(Image.fromarray(pixels))))
        opacity, factor = numpy.array(answer)[..., 3], answer.width / width
        inside = slice(math.ceil(3.5 * factor), math.floor(5.5 * factor))
        assert (opacity[inside, inside] == 90).all()
        assert not opacity[:, math.ceil(8.5 * factor) :].any()
        assert opacity.max() == 90


async def test_the_network_sees_faint_strokes_as_solid(
    client: httpx.AsyncClient, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()

    def batch(jobs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        seen.extend(int(job.planes[1].max()) for job in jobs)
        return DeviceEngine.batch(engine, jobs)

    monkeypatch.setattr(engine, "batch", batch)
    pixels = numpy.array(noise(13, 9, mode="RGBA"))
    pixels[..., 3] = 0
    pixels[4:7, :, 3] = 90
    others = numpy.roll(pixels, 1, axis=0)
    still, *frames = (Image.fromarray(each) for each in (pixels, pixels, others))
    await client.post("/v1/upscale", content=encoded(still))
    animation = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    await client.post("/v1/upscale?frames=all", content=animation)
    assert seen == [255, 255, 255]


async def test_many_pictures_at_once_all_get_their_own(client: httpx.AsyncClient) -> None:
    images = [noise(8 + 5 * n, 70 - 4 * n, seed=n) for n in range(16)]
    alone = [await upscale(client, image) for image in images]
    together = await asyncio.gather(*(upscale(client, image) for image in images))
    for image, one, other in zip(images, alone, together, strict=True):
        assert other.size == (image.width * 4, image.height * 4)
        assert numpy.abs(numpy.array(one).astype(int) - numpy.array(other)).max() <= 1


async def test_the_answer_names_its_model_and_times(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5)))
    assert answer.headers["x-model"].startswith("tiny@")
    stages = [entry.split(";dur=")[0].strip() for entry in answer.headers["server-timing"].split(",")]
    assert stages == ["decode", "queue", "infer", "encode"]


async def test_a_model_can_be_named(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/upscale?model=tiny&scale=4", content=encoded(noise(5, 5)))).status_code == 200


async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?model=huge", content=encoded(noise(5, 5)))
    assert "'huge'" in problem(answer, 404, "no-such-model")


async def test_parameters_may_be_form_fields(client: httpx.AsyncClient) -> None:
    upload = {"image": encoded(noise(5, 5))}
    answer = await client.post("/v1/upscale", files=upload, data={"model": "tiny", "scale": "4"})
    assert answer.status_code == 200
    answer = await client.post("/v1/upscale", files=upload, data={"model": "huge"})
    assert "'huge'" in problem(answer, 404, "no-such-model")


@pytest.mark.parametrize("fields", [{"scale": "17"}, {"scale": "four"}, {"colour": "red"}])
async def test_a_form_field_out_of_range_is_unprocessable(client: httpx.AsyncClient, fields: dict[str, str]) -> None:
    answer = await client.post("/v1/upscale", files={"image": encoded(noise(5, 5))}, data=fields)
    assert next(iter(fields)) in problem(answer, 422, "unprocessable")


@pytest.mark.parametrize(
    "query", ["scale=17", "scale=0", "scale=nan", "scale=four", "quality=0", "format=gif", "colour=red"]
)
async def test_a_parameter_out_of_range_is_unprocessable(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.post(f"/v1/upscale?{query}", content=encoded(noise(5, 5)))
    assert query.split("=")[0] in problem(answer, 422, "unprocessable")


async def test_an_empty_body_is_malformed(client: httpx.AsyncClient) -> None:
    assert "multipart field 'image'" in problem(await client.post("/v1/upscale"), 400, "bad-request")


async def test_a_form_without_the_field_is_malformed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", files={"photo": encoded(noise(5, 5))})
    problem(answer, 400, "bad-request")


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
async def test_a_broken_form_is_malformed(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/upscale", content=b"--y\r\nnonsense", headers={"content-type": content_type})
    problem(answer, 400, "bad-request")


async def test_too_many_bytes_are_refused(client: httpx.AsyncClient) -> None:
    detail = problem(await client.post("/v1/upscale", content=bytes(100_001)), 413, "too-large")
    assert "100000" in detail


async def test_an_endless_body_is_cut_at_the_limit(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> object:
        nonlocal sent
        while sent < 10_000_000:
            sent += 10_000
            yield bytes(10_000)

    problem(await client.post("/v1/upscale", content=endless()), 413, "too-large")  # type: ignore[arg-type]  # a stream
    assert sent < 200_000


async def test_too_many_pixels_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", content=encoded(Image.new("RGB", (201, 200))))
    assert "40000" in problem(answer, 413, "too-large")


async def test_an_upload_that_is_not_a_picture_is_an_unsupported_format(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/upscale", content=b"hello"), 415, "unsupported-format")


async def test_a_corrupt_picture_is_unprocessable(client: httpx.AsyncClient) -> None:
    upload = encoded(noise(50, 50))
    problem(await client.post("/v1/upscale", content=upload[: len(upload) // 2]), 422, "unprocessable")


async def test_a_failure_of_the_network_gets_a_fixed_text_and_the_next_request_works(
    client: httpx.AsyncClient, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(inputs: object) -> object:
        raise RuntimeError("secret /path/to/weights")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "batch", fail)
        detail = problem(await client.post("/v1/upscale", content=encoded(noise(5, 5))), 500, "internal")
        assert "secret" not in detail
    assert (await upscale(client, noise(5, 5))).size == (20, 20)


async def test_a_request_id_is_echoed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": "order-17.a"})
    assert answer.headers["x-request-id"] == "order-17.a"


@pytest.mark.parametrize("sent", ["", "x" * 200, "two words", "<script>"])
async def test_a_missing_or_odd_request_id_is_replaced(client: httpx.AsyncClient, sent: str) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": sent})
    assert len(answer.headers["x-request-id"]) == 32


async def test_errors_carry_a_request_id_too(client: httpx.AsyncClient) -> None:
    assert "x-request-id" in (await client.post("/v1/upscale")).headers


async def test_the_answer_to_a_grey_upload_is_grey(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5, mode="L")))
    assert Image.open(io.BytesIO(answer.content)).mode == "L"


@pytest.mark.parametrize(("scale", "size"), [("4", (52, 36)), ("2", (26, 18)), ("1.5", (20, 14)), ("1", (13, 9))])
async def test_a_smaller_scale_gives_exactly_that_size(
    client: httpx.AsyncClient, scale: str, size: tuple[int, int]
) -> None:
    answer = await client.post(f"/v1/upscale?scale={scale}", content=encoded(noise(13, 9)))
    assert decoded(answer).size == size


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
async def test_the_format_can_be_requested(client: httpx.AsyncClient, form: str) -> None:
    answer = await client.post(f"/v1/upscale?format={form}", content=encoded(noise(13, 9)))
    assert answer.headers["content-type"] == f"image/{form}"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format or "").lower() == form
    assert image.size == (52, 36)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "png"),
        ("", "png"),
        ("nonsense", "png"),
        ("image/*", "png"),
        ("image/webp", "webp"),
        ("image/webp;q=0.5, image/jpeg", "jpeg"),
        ("image/png;q=0.1, image/*;q=0.9", "webp"),
        ("text/html, IMAGE/JPEG ; Q=0.3, */*;q=0.2", "jpeg"),
        ("image/png;q=0, */*", "webp"),
    ],
)
async def test_accept_chooses_the_format(client: httpx.AsyncClient, accept: str, form: str) -> None:
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers={"accept": accept})
    assert answer.headers["content-type"] == f"image/{form}"
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    "form", [{"content": encoded(noise(5, 5))}, {"files": {"image": ("..", encoded(noise(5, 5)))}}]
)
async def test_an_answer_whose_upload_has_no_name_has_one(client: httpx.AsyncClient, form: dict[str, Any]) -> None:
    answer = await client.post("/v1/upscale?scale=2&format=jpeg", **form)
    assert answer.headers["content-disposition"] == 'inline; filename="picture_x2.jpg"'


async def test_the_parameter_overrides_accept(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?format=png", content=encoded(noise(5, 5)), headers={"accept": "image/webp"})
    assert answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize("accept", ["text/html", "image/heic", "image/*;q=0", "*/*;q=0.0"])
async def test_a_caller_that_accepts_no_format_gets_406(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers={"accept": accept})
    assert "image/png, image/webp, image/jpeg, image/avif" in problem(answer, 406, "not-acceptable")


async def test_an_answer_larger_than_its_format_is_refused_before_the_work(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?format=webp", content=encoded(Image.new("RGB", (1, 4096))))
    detail = problem(answer, 422, "unprocessable")
    assert "4 x 16384 px" in detail
    assert "16383" in detail
    assert "format=png" in detail


async def test_a_16_bit_upload_gets_a_16_bit_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", content=FILES["PNG 16 bits"]())
    assert answer.content[24] == 16


async def test_the_answer_to_an_animation_is_its_first_frame_with_a_header(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale?scale=1", content=FILES["GIF animated"]())
    assert answer.status_code == 200
    assert answer.headers["x-frames"] == "1 of 2"


@pytest.mark.parametrize("query", ["", "?colour_lock=true", "?bits=16", "?frames=all&bits=16&format=png"])
async def test_nothing_reads_a_whole_upload_on_the_event_loop(
    client: httpx.AsyncClient, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set[str]()

    def noted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **keywords: object) -> object:
            threads.add(threading.current_thread().name)
            return call(*arguments, **keywords)

        return wrapper

    monkeypatch.setattr("app.service.Postprocessor", noted(Postprocessor))
    monkeypatch.setattr(Picture, "deepened", noted(Picture.deepened))
    monkeypatch.setattr(Picture, "as_seen", noted(Picture.as_seen))
    upload = encoded(noise(24, 18, mode="RGBA"))
    if "frames" in query:
        frames = [noise(24, 18, seed=seed, mode="RGBA") for seed in range(2)]
        upload = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    await client.post(f"/v1/upscale{query}", content=upload)
    assert threads
    assert all(name.startswith("codec") for name in threads)
