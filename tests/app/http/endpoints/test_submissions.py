"""POST /v1/jobs: documents, forms, and the texts of their refusals."""

import json
from typing import Any

import httpx
import pytest
from PIL import Image

from app.lists import hosts_of
from app.settings import Settings
from tests.app.conftest import encoded, noise, problem

pytestmark = pytest.mark.anyio


async def send(client: httpx.AsyncClient, document: str) -> httpx.Response:
    return await client.post("/v1/jobs", content=document, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("settings", [{"fetch_hosts": hosts_of("*")}], indirect=True)
async def test_the_longest_urls_of_a_hundred_pictures_are_accepted(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    urls = [f"https://a.example/{number}?".ljust(4096, "s") for number in range(settings.job_max_pictures)]
    answer = await client.post("/v1/jobs", json={"source": urls, "target": urls})
    assert answer.status_code == 202, answer.text
    await client.delete(f"/v1/jobs/{answer.json()['id']}")


async def test_the_longest_webhook_is_a_field_of_a_form(client: httpx.AsyncClient) -> None:
    for url, kind in (("https://a.example/".ljust(4096, "a"), "source-refused"), ("é" * 4097, "unprocessable")):
        form = {"files": {"image": encoded(noise(5, 5))}, "data": {"webhook": url}}
        problem(await client.post("/v1/jobs", **form), 422, kind)  # type: ignore[arg-type]  # two keywords


@pytest.mark.parametrize("member", ['"scale": 2, "scale": 3', '"source": "https://b.example"', '"a": {"b": 1, "b": 2}'])
async def test_a_member_given_twice_is_refused_by_its_name(client: httpx.AsyncClient, member: str) -> None:
    detail = problem(await send(client, f'{{"source": "https://a.example", {member}}}'), 400, "bad-request")
    assert "more than once" in detail


@pytest.mark.parametrize(
    "name", ["scale", "width", "height", "max_side", "megapixels", "quality", "bits", "fidelity", "model"]
)
async def test_a_boolean_is_no_number(client: httpx.AsyncClient, name: str) -> None:
    detail = problem(await send(client, f'{{"source": "https://a.example", "{name}": true}}'), 422, "unprocessable")
    assert detail.startswith(f"{name} = True: Input should be ")


async def test_a_document_of_a_great_many_values_is_not_parsed(client: httpx.AsyncClient) -> None:
    for value in ("1,", "[],", "{},"):
        document = f"[{value * 100_000}1]"
        assert "commas and brackets" in problem(await send(client, document), 400, "bad-request")


@pytest.mark.parametrize(
    ("bad", "status", "complaint"),
    [
        (b"hello", 415, "picture 2: "),
        (encoded(Image.new("RGB", (300, 300))), 413, "picture 2: the picture has 300 x 300"),
        (bytes(100_001), 413, "picture 2: it has 100001 bytes"),
        (b"", 400, "picture 2: the file 'upload' has 0 bytes"),
    ],
)
async def test_a_refusal_names_the_picture_where_there_are_several(
    client: httpx.AsyncClient, bad: bytes, status: int, complaint: str
) -> None:
    several = [("image", encoded(noise(5, 5))), ("image", bad)]
    answer = await client.post("/v1/jobs", files=several)
    assert (answer.status_code, answer.json()["detail"][: len(complaint)]) == (status, complaint)
    alone = await client.post("/v1/jobs", files=several[1:])
    assert (alone.status_code, "picture 1" in alone.text) == (status, False)


SECRET = "https://bucket.example/in.jpg?sig=SECRET"


@pytest.mark.parametrize(
    "members",
    [
        {"source": [SECRET, 5], "target": {"at": SECRET}},
        {"source": [[SECRET]], "scale": SECRET},
        {"source": "https://a.example", "webhook_events": SECRET},
        {"source": "https://a.example", "webhook": [SECRET]},
        {"source": "https://a.example", "callback": SECRET, SECRET: 1},
        {"source": SECRET, "model": SECRET},
        {"source": SECRET.replace("https:", "ftp:")},
        {"source": SECRET + "x" * 4096},
    ],
)
async def test_no_refusal_repeats_the_query_of_a_url(client: httpx.AsyncClient, members: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    picture = encoded(noise(5, 5))
    given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in members.items()}
    for answer in (
        await client.post("/v1/jobs", content=json.dumps(members), headers=headers),
        await client.post("/v1/jobs", content=picture, params=given),
        await client.post("/v1/jobs", files={"image": picture}, data=given),
        await client.post("/v1/upscale", content=picture, params=given),
    ):
        assert answer.status_code in (400, 404, 422)
        assert "SECRET" not in answer.text
