"""Default headers of answers."""

import base64
import hashlib
import re

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


async def test_the_documentation_may_run_its_own_script_and_no_other(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    policy = dict(part.split(maxsplit=1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy["script-src"]
    sources = re.findall(r'(?:src|href)="(https?:[^"]+)"', answer.text)
    assert sources
    assert all(source.startswith("https://cdn.jsdelivr.net/npm/") for source in sources)
    assert not re.search(r"\son\w+=", answer.text)
