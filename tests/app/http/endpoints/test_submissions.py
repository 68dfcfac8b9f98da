"""POST /v1/jobs: documents, forms, and what their refusals say."""

import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.app.conftest import encoded, noise

pytestmark = pytest.mark.anyio


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
