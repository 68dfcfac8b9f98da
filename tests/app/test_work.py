"""Memory of the work on a picture: a limit for one, and formats that stay below it."""

import io

import httpx
import pytest
from PIL import Image

from app.options import UpscaleOptions
from app.pictures.encode import FORMATS
from app.pictures.size import Size
from app.service import UpscaleService
from tests.app.conftest import encoded, noise, problem

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("settings", [{"max_picture_memory_bytes": 2_000_000}], indirect=True),
]


async def test_an_answer_falls_back_to_a_format_whose_encoder_has_room(client: httpx.AsyncClient) -> None:
    for side, form in ((60, "image/png"), (9, "image/avif")):
        headers, picture = {"Accept": "image/avif, image/png;q=0.5"}, encoded(noise(side, side))
        answer = await client.post("/v1/upscale", content=picture, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, form)


async def test_a_format_whose_encoder_has_no_room_is_refused_by_name_of_the_way_out(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/upscale?format=avif", content=encoded(noise(60, 60)))
    detail = problem(refused, 413, "too-large")
    assert "would take 3812400 bytes of memory; the limit is 2000000 bytes; ask for format=png" in detail


async def reserved_bytes(service: UpscaleService, side: int, options: UpscaleOptions) -> int:
    """Memory that is reserved for an answer to a picture of this size."""
    header = await service.read_header(encoded(noise(side, side)))
    async with service.library.lease(None) as network:
        work = service.work(header, network.info, options)
    return work.fitted(header, service.settings.max_picture_memory_bytes)[1]


async def test_no_memory_is_reserved_for_a_format_that_has_no_room(service: UpscaleService) -> None:
    avif, png = FORMATS["avif"], FORMATS["png"]
    both, png_alone = (UpscaleOptions(formats=formats) for formats in ([avif, png], [png]))
    assert await reserved_bytes(service, 60, both) == await reserved_bytes(service, 60, png_alone)
    assert await reserved_bytes(service, 9, both) > await reserved_bytes(service, 9, png_alone)


async def test_an_ensemble_adds_no_memory_to_a_picture_that_is_only_resized(service: UpscaleService) -> None:
    for size, more in ((Size(scale=0.5), False), (Size(scale=2), True)):
        plain, ensemble = (UpscaleOptions(size=size, ensemble=ensemble) for ensemble in (False, True))
        assert (await reserved_bytes(service, 60, ensemble) > await reserved_bytes(service, 60, plain)) == more


async def test_an_ensemble_that_has_no_room_is_refused(client: httpx.AsyncClient) -> None:
    picture = encoded(noise(110, 110))
    assert (await client.post("/v1/upscale", content=picture)).status_code == 200
    assert "leave ensemble out" in problem(
        await client.post("/v1/upscale?ensemble=true", content=picture), 413, "too-large"
    )


async def test_an_animation_that_has_no_room_is_refused(client: httpx.AsyncClient) -> None:
    made = io.BytesIO()
    shades = [Image.new("RGB", (90, 90), (20 * index, 0, 0)) for index in range(3)]
    shades[0].save(made, "WEBP", save_all=True, append_images=shades[1:])
    refused = await client.post("/v1/upscale?frames=all", content=made.getvalue())
    assert "frames=first" in problem(refused, 413, "too-large")


@pytest.mark.parametrize("options", ["format=avif", "ensemble=true"])
async def test_a_job_that_has_no_room_is_refused_at_once(client: httpx.AsyncClient, options: str) -> None:
    refused = await client.post(f"/v1/jobs?{options}", content=encoded(noise(110, 110)))
    problem(refused, 413, "too-large")
