"""Answers as the OpenAPI document describes them: their headers and media types."""

import asyncio
import re
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from app.http.middleware.headers import DEFAULTS
from app.jobs.addresses import AddressRules
from app.lifecycle import Lifecycle
from app.lists import hosts_of
from tests.app.conftest import encoded, noise
from tests.app.http.endpoints.test_jobs import ended
from tests.app.jobs.peer import Peer, listening

pytestmark = pytest.mark.anyio

COMMON = {"content-type", "content-length", "vary", "x-accel-buffering", *map(str.lower, DEFAULTS)}
"""Headers that the document need not describe, because they do not concern programs."""


class Described:
    """Sends requests, and checks that the document describes the answers."""

    def __init__(self, client: httpx.AsyncClient, document: dict[str, Any]) -> None:
        self._client = client
        self._paths = {re.compile(re.sub(r"{\w+}", "[^/]+", path)): it for path, it in document["paths"].items()}
        self.statuses = set[int]()

    async def __call__(self, method: str, address: str, **options: Any) -> httpx.Response:
        answer = await self._client.request(method, address, **options)
        path = answer.request.url.path
        (operations,) = (it for pattern, it in self._paths.items() if pattern.fullmatch(path))
        described = operations[method.lower()]["responses"][str(answer.status_code)]
        known = {name.lower() for name in described["headers"]}
        assert set(answer.headers) - COMMON <= known, f"{method} {path} {answer.status_code}"
        if answer.content:
            assert answer.headers["content-type"].partition(";")[0] in described["content"]
        if answer.is_error:
            assert f"`{answer.json()['type'].rpartition(':')[2]}`: {answer.json()['title']}" in described["description"]
        self.statuses.add(answer.status_code)
        return answer


@pytest.fixture
async def ask(client: httpx.AsyncClient) -> Described:
    return Described(client, (await client.get("/openapi.json")).json())


async def test_the_headers_of_answers_are_in_the_document(client: httpx.AsyncClient, ask: Described) -> None:
    picture = encoded(noise(5, 5))
    for address in ("/livez", "/readyz", "/metrics", "/v1/models", "/v1/jobs"):
        await ask("GET", address)
    await ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    await ask("POST", "/v1/upscale?format=jpeg", content=picture, headers={"Prefer": "wait=9"})
    await ask("POST", "/v1/upscale", content=picture, headers={"Prefer": "respond-async"})
    for headers in ({"Content-Encoding": "gzip"}, {"Accept": "text/html"}, {}):
        await ask("POST", "/v1/upscale", content=b"nothing", headers=headers)
    await ask("POST", "/v1/jobs", content=picture, headers={"Idempotency-Key": "a"})
    sent = await ask("POST", "/v1/jobs", content=picture, headers={"Idempotency-Key": "a"})
    address = f"/v1/jobs/{sent.json()['id']}"
    etag = (await ended(client, sent.json()["id"]))["result"]["etag"]
    await ask("GET", address)
    await ask("GET", f"{address}/webhooks")
    seen = (await ask("GET", f"{address}/events")).text
    (number, *_) = re.findall(r"id: (\d+)", seen)
    await ask("GET", f"{address}/events", headers={"Last-Event-ID": number})
    for name, value in [("Range", "bytes=0-1"), ("Range", "bytes=99999-"), ("If-None-Match", etag), ("If-Match", "")]:
        for path in ("/result", "/results/1"):
            await ask("GET", address + path)
            await ask("GET", address + path, headers={name: value})
    several = await ask("POST", "/v1/jobs", files=[("image", picture)] * 2)
    await ended(client, several.json()["id"])
    await ask("GET", f"/v1/jobs/{several.json()['id']}/result")
    await ask("DELETE", address)
    await ask("GET", f"{address}/result")
    assert ask.statuses == {200, 202, 204, 206, 304, 404, 406, 412, 415, 416}


async def test_attempts_to_deliver_a_webhook_are_described(
    client: httpx.AsyncClient, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["AttemptView"]
    async with listening(Peer()) as peer:
        rules = AddressRules(hosts_of(f"127.0.0.1:{peer.port}"), setting="-", networks=[ip_network("127.0.0.0/8")])
        monkeypatch.setattr(life.jobs.parts.hooks, "rules", rules)
        sent = await client.post(f"/v1/jobs?webhook={peer.address}", content=encoded(noise(5, 5)))
        async with asyncio.timeout(60):
            while True:
                log = (await client.get(f"/v1/jobs/{sent.json()['id']}/webhooks")).json()["webhooks"]
                if log and log[0]["attempts"]:
                    break
                await asyncio.sleep(0.02)
    (attempt,) = log[0]["attempts"]
    assert list(attempt) == list(schema["properties"]) == ["at", "status", "error", "seconds"]
    assert (attempt["status"], attempt["error"]) == (200, None)
    assert datetime.fromisoformat(attempt["at"]).utcoffset() == timedelta(0)
