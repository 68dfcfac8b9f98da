"""frames=all: every frame of an animation, upscaled, with its time."""

import asyncio
import io
import struct
from collections.abc import Sequence

import httpx
import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.animation import upscale_animation
from app.options import UpscaleOptions
from app.pictures.encode import FORMATS
from app.service import UpscaleService
from app.settings import Settings
from app.upscaling import UpscaleRequest
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.live import until
from tests.app.pictures.files import chunk, png

pytestmark = pytest.mark.anyio

DURATIONS = [40, 200, 1000, 70]
ALL = "/v1/upscale?frames=all"


def animation(file_format: str, pictures: Sequence[Image.Image], **options: object) -> bytes:
    """Make an animation in a lossless format."""
    options = {"save_all": True, "append_images": pictures[1:], "duration": DURATIONS[: len(pictures)]} | options
    return encoded(pictures[0], file_format, **options | ({"lossless": True} if file_format == "WEBP" else {}))


def clip(count: int = 4, mode: str = "RGB") -> list[Image.Image]:
    """Make frames that differ from each other in a small square; one corner stays clear."""
    background = noise(24, 18, mode=mode)
    if mode == "RGBA":
        background.paste((0, 0, 0, 0), (0, 0, 8, 8))
    frames = [background.copy() for _ in range(count)]
    for number, frame in enumerate(frames):
        frame.paste(noise(5, 5, seed=number + 1).convert(mode), (10 + number, 7))
    return frames


def shown(file: bytes) -> tuple[list[NDArray[numpy.uint8]], list[float], int | None]:
    """Read an animation with Pillow: RGBA pixels, milliseconds, and the number of plays."""
    image = Image.open(io.BytesIO(file))
    pixels, times = [], []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        rgba = numpy.array(image.convert("RGBA"))
        rgba[rgba[..., 3] == 0] = 0
        pixels.append(rgba)
        times.append(image.info["duration"])
    return pixels, times, image.info.get("loop")


async def alone(client: httpx.AsyncClient, frame: Image.Image) -> NDArray[numpy.uint8]:
    answer = await client.post("/v1/upscale", content=encoded(frame))
    return numpy.array(decoded(answer).convert("RGBA"))


@pytest.mark.parametrize("coloured", [False, True])
async def test_an_animation_is_grey_where_all_of_its_frames_are(client: httpx.AsyncClient, *, coloured: bool) -> None:
    frames = [frame.convert("L").convert("RGB") for frame in clip(3)]
    if coloured:
        frames[1].putpixel((3, 3), (200, 0, 0))
    answer = await client.post(f"{ALL}&format=png", content=animation("PNG", frames))
    pixels, _, _ = shown(answer.content)
    assert [bool(numpy.ptp(frame[..., :3], axis=-1).any()) for frame in pixels] == [coloured] * 3


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize(("file_format", "mode"), [("WEBP", "RGBA"), ("PNG", "RGBA"), ("PNG", "RGB")])
async def test_each_frame_is_what_it_would_be_alone(
    client: httpx.AsyncClient, file_format: str, mode: str, form: str
) -> None:
    frames = clip(mode=mode)
    answer = await client.post(f"{ALL}&format={form}", content=animation(file_format, frames, loop=3))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-frames"] == "4 of 4"
    assert "x-left-out" not in answer.headers
    pixels, times, plays = shown(answer.content)
    assert times == DURATIONS
    assert plays == 3
    for frame, upscaled in zip(frames, pixels, strict=True):
        assert numpy.abs(upscaled.astype(int) - await alone(client, frame)).max() <= 1


@pytest.mark.parametrize("form", ["png", "webp"])
async def test_frames_of_a_gif_come_with_disposal_resolved(client: httpx.AsyncClient, form: str) -> None:
    frames = [frame.quantize(32) for frame in clip()]
    upload = animation("GIF", frames, disposal=2, loop=0)
    expected, _, _ = shown(upload)
    answer = await client.post(f"{ALL}&format={form}", content=upload)
    pixels, times, plays = shown(answer.content)
    assert (times, plays) == (DURATIONS, 0)
    for frame, upscaled in zip(expected, pixels, strict=True):
        assert numpy.abs(upscaled.astype(int) - await alone(client, Image.fromarray(frame))).max() <= 1


async def test_every_frame_of_an_animation_is_charged(service: UpscaleService) -> None:
    header = await service.read_header(animation("GIF", clip(3)))
    first, every = (UpscaleRequest(options=UpscaleOptions(frames=frames)) for frames in ("first", "all"))
    assert first.cost_px(service, header) == 24 * 18
    assert every.cost_px(service, header) == 3 * 24 * 18


async def test_a_gif_that_does_not_repeat_plays_once(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{ALL}&format=webp", content=animation("GIF", clip(2)))
    assert shown(answer.content)[2] == 1


async def test_identical_frames_are_upscaled_once_and_shown_as_often(
    client: httpx.AsyncClient, service: UpscaleService
) -> None:
    first, second = clip(2)
    upload = animation("WEBP", [first, first, second, first], loop=0, minimize_size=False)
    before = service.scheduler.counters()
    answer = await client.post(f"{ALL}&format=webp", content=upload)
    after = service.scheduler.counters()
    assert sum(after.outcomes.values()) - sum(before.outcomes.values()) == 2
    pixels, times, _ = shown(answer.content)
    assert times == [DURATIONS[0] + DURATIONS[1], DURATIONS[2], DURATIONS[3]]
    assert (pixels[0] == pixels[2]).all()


async def test_by_default_the_first_frame_is_upscaled(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/upscale", content=animation("PNG", clip()))
    assert answer.headers["x-frames"] == "1 of 4"
    assert getattr(decoded(answer), "n_frames", 1) == 1


async def test_a_still_picture_is_answered_as_such(client: httpx.AsyncClient) -> None:
    for form in ("png", "jpeg"):
        answer = await client.post(f"{ALL}&format={form}", content=encoded(noise(9, 7)))
        assert (answer.status_code, answer.headers.get("x-frames")) == (200, None)


async def test_accept_falls_to_a_format_with_animations(client: httpx.AsyncClient) -> None:
    headers = {"Accept": "image/jpeg, image/webp;q=0.5"}
    answer = await client.post(ALL, content=animation("GIF", clip(2)), headers=headers)
    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("query", ["format=jpeg", "format=avif", "format=webp&bits=16"])
async def test_what_an_animation_cannot_be_is_refused_with_a_way_out(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.post(f"{ALL}&{query}", content=animation("GIF", clip(2)))
    assert "ask for" in problem(answer, 422, "unprocessable")


async def test_pages_of_a_tiff_are_no_animation(client: httpx.AsyncClient) -> None:
    answer = await client.post(ALL, content=animation("TIFF", clip(2)))
    assert "frames=first" in problem(answer, 422, "unprocessable")


async def test_a_frame_beyond_the_picture_is_refused(client: httpx.AsyncClient) -> None:
    upload = bytearray(animation("GIF", [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]))
    place = upload.rindex(b"\x2c\0\0\0\0")
    upload[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    assert "frame 2 of the GIF" in problem(await client.post(ALL, content=bytes(upload)), 422, "unprocessable")


async def test_a_truncated_animation_is_refused(client: httpx.AsyncClient) -> None:
    upload = animation("WEBP", clip())
    problem(await client.post(ALL, content=upload[:-40]), 422, "unprocessable")


@pytest.mark.parametrize("settings", [{"max_picture_px": 24 * 18 * 3}], indirect=True)
async def test_all_frames_together_are_limited_like_one_picture(client: httpx.AsyncClient) -> None:
    answer = await client.post(ALL, content=animation("PNG", clip()))
    assert "4 frames of 24 x 18 px = 1728 px" in problem(answer, 413, "too-large")
    assert (await client.post(ALL, content=animation("PNG", clip(3)))).status_code == 200


@pytest.mark.parametrize("settings", [{"max_answer_px": 24 * 18 * 16 * 3}], indirect=True)
async def test_upscaled_frames_together_are_limited_like_one_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post(ALL, content=animation("PNG", clip()))
    assert "4 frames of 96 x 72 px = 27648 px" in problem(answer, 413, "too-large")
    assert (await client.post(f"{ALL}&scale=3", content=animation("PNG", clip()))).status_code == 200


@pytest.mark.parametrize("settings", [{"max_queued_px": 4 * 1024}], indirect=True)  # four small pictures
async def test_the_queue_has_room_for_all_frames_or_for_none(
    client: httpx.AsyncClient, settings: Settings, blocked: BlockedDevice
) -> None:
    first = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(24, 18))))
    await blocked.at_work()
    answer = await client.post(ALL, content=animation("PNG", clip()))
    problem(answer, 429, "queue-full")
    assert int(answer.headers["retry-after"]) >= 1
    blocked.gate.set()
    assert (await first).status_code == 200


async def test_nothing_stays_queued_or_in_memory(client: httpx.AsyncClient, service: UpscaleService) -> None:
    await client.post(ALL, content=animation("GIF", clip()))
    assert (service.scheduler.counters().queued_px, service.pictures.used_bytes) == (0, 0)


async def test_a_16_bit_animation_is_refused_by_name(client: httpx.AsyncClient) -> None:
    control = [chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 4, 4, 0, 0, 1, 10, 0, 0)) for number in range(2)]
    upload = png(numpy.zeros((4, 4, 3), numpy.uint16), chunk(b"acTL", struct.pack(">II", 2, 0)), *control)
    assert "16 bits" in problem(await client.post(ALL, content=upload), 415, "unsupported-format")


async def test_a_job_answers_like_a_request(client: httpx.AsyncClient) -> None:
    upload = animation("GIF", clip(2))
    job = (await client.post("/v1/jobs?frames=all&format=webp&metadata=strip", content=upload)).json()
    while job["state"] in ("waiting", "running"):
        events = await client.get(f"/v1/jobs/{job['id']}/events")  # until it has ended
        assert events.status_code == 200
        job = (await client.get(f"/v1/jobs/{job['id']}")).json()
    result = await client.get(f"/v1/jobs/{job['id']}/result")
    waited = await client.post(f"{ALL}&format=webp&metadata=strip", content=upload)
    assert result.content == waited.content
    assert result.headers["x-frames"] == waited.headers["x-frames"] == "2 of 2"


async def test_room_in_the_queue_is_kept_only_for_frames_that_are_upscaled(
    client: httpx.AsyncClient, service: UpscaleService, blocked: BlockedDevice
) -> None:
    still = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(24, 18))))
    await blocked.at_work()
    for_one = service.scheduler.counters().queued_px
    first, second = clip(2)
    frames = [first, second] * 4  # opaque, and two different ones
    moving = asyncio.create_task(client.post(ALL, content=animation("PNG", frames, duration=40)))
    await until(lambda: service.scheduler.counters().queued_px == 3 * for_one)  # once it is decoded
    blocked.gate.set()
    assert ((await still).status_code, (await moving).status_code) == (200, 200)


@pytest.mark.usefixtures("client")
async def test_progress_ends_at_1_where_frames_are_upscaled_again(
    service: UpscaleService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.animation.MAX_HELD_BYTES", 0)
    monkeypatch.setattr("app.animation.MAX_IN_WORK", 2)
    frames = clip(5)
    upload = animation("WEBP", [*frames, *frames[-2::-1]], duration=40, minimize_size=False)
    options = UpscaleOptions(frames="all", formats=[FORMATS["png"]])
    header = await service.read_header(upload)
    seen = [0.0]
    async with (
        service.library.lease(None) as network,
        upscale_animation(service, upload, header, network, options) as answer,
    ):
        seen += [answer.progress() async for _ in answer.pieces]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(("frames", "shown_frames"), [("first", 1), ("all", 4)])
async def test_a_job_says_how_many_frames_its_result_shows(
    client: httpx.AsyncClient, frames: str, shown_frames: int
) -> None:
    sent = await client.post(f"/v1/jobs?frames={frames}", content=animation("GIF", clip()))
    address = f"/v1/jobs/{sent.raise_for_status().json()['id']}"
    await client.get(f"{address}/events")  # until it has ended
    job = (await client.get(address)).json()
    assert [(it["shown"], it["frames"]) for it in (job["result"], job["pictures"][0]["result"])] == [
        (shown_frames, 4),
        (shown_frames, 4),
    ]
    assert (await client.get(f"{address}/result")).headers["x-frames"] == f"{shown_frames} of 4"
