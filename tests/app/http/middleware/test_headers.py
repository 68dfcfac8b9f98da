"""Default headers of answers."""

import httpx
import pytest

from tests.app.conftest import encoded, noise

pytestmark = pytest.mark.anyio


async def test_every_kind_of_answer_has_the_default_headers(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/v1/upscale", content=encoded(noise(5, 5))),
        await client.post("/v1/upscale", content=b"rubbish"),
        await client.get("/v1/models"),
        await client.get("/nothing"),
        await client.get("/readyz"),
        await client.get("/metrics"),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


async def test_pages_may_load_our_files_and_nothing_else(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    policy = dict(part.split(maxsplit=1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert {source for sources in policy.values() for source in sources.split()} == {
        "'none'",
        "'self'",
        "data:",
        "blob:",
    }
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
