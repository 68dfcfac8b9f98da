"""Jobs and API keys: a key sees its own jobs, and its limits hold for them."""

import asyncio
from collections.abc import AsyncIterable
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from app.access.keys import new_key
from app.jobs.addresses import AddressRules
from app.jobs.store import StoreDown
from app.lifecycle import Lifecycle
from app.lists import hosts_of
from app.record import RequestRecord
from app.service import UpscaleService
from app.settings import Settings
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, problem
from tests.app.http.endpoints.test_jobs import ended
from tests.app.jobs.peer import Peer, Reply, listening
from tests.app.live import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Tokens by the names of their keys, which are in the file `keys`."""
    keys = {
        "shop": new_key("shop", ["jobs=2", "px_per_minute=500", "requests_per_minute=3"]),
        "other": new_key("other"),
        "small": new_key("small", ["job_bytes=100"]),
        "boss": new_key("boss", ["role=operator"]),
    }
    (tmp_path / "keys").write_text("\n".join(line for _, line in keys.values()))
    return {name: token for name, (token, _) in keys.items()}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path, tokens: dict[str, str]) -> Settings:
    return settings.model_copy(update={"keys": tmp_path / "keys"})


async def test_a_key_sees_its_own_jobs_within_its_limits(
    client: httpx.AsyncClient, tokens: dict[str, str], blocked: BlockedDevice
) -> None:
    headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    picture = encoded(noise(20, 16))
    too_many = await client.post("/v1/jobs", files=[("image", picture)] * 3, headers=headers["shop"])
    assert (too_many.status_code, too_many.json()["type"]) == (429, "urn:esrgan-serve:problem:key-limit")
    assert "jobs=2" in too_many.json()["detail"]
    sent = await client.post("/v1/jobs", files=[("image", picture)] * 2, headers=headers["shop"])
    address = f"/v1/jobs/{sent.raise_for_status().json()['id']}"
    spent = await client.post("/v1/jobs", content=picture, headers=headers["shop"])
    assert (spent.status_code, "px_per_minute=500" in spent.json()["detail"]) == (429, True)
    for _ in range(5):  # reading counts against no limit
        assert (await client.get(address, headers=headers["shop"])).status_code == 200
    assert (await client.get(address, headers=headers["boss"])).status_code == 200
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events"), ("GET", "/webhooks")):
        hidden = await client.request(method, address + path, headers=headers["other"])
        assert (hidden.status_code, hidden.json()["type"]) == (404, "urn:esrgan-serve:problem:no-such-job")
    assert (await client.get("/v1/jobs", headers=headers["other"])).json()["jobs"] == []
    assert len((await client.get("/v1/jobs", headers=headers["boss"])).json()["jobs"]) == 1
    assert (await client.get(address)).status_code == 401
    blocked.gate.set()


async def test_delivering_a_webhook_again_counts_as_a_request(
    client: httpx.AsyncClient, tokens: dict[str, str], blocked: BlockedDevice
) -> None:
    client.headers["Authorization"] = f"Bearer {tokens['shop']}"
    sent = await client.post("/v1/jobs", content=encoded(noise(5, 5)))
    again = f"/v1/jobs/{sent.raise_for_status().json()['id']}/webhooks/msg_1/redeliver"
    for _ in range(2):
        problem(await client.post(again), 404, "no-such-job")
    assert "requests_per_minute=3" in problem(await client.post(again), 429, "key-limit")
    blocked.gate.set()


async def test_the_files_of_the_jobs_of_a_key_have_a_limit(client: httpx.AsyncClient, tokens: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {tokens['small']}"}
    refused = await client.post("/v1/jobs", content=encoded(noise(20, 16)), headers=headers)
    assert "job_bytes=100" in problem(refused, 429, "key-limit")


async def test_results_count_for_the_bytes_that_the_jobs_of_a_key_may_hold(
    client: httpx.AsyncClient, tokens: dict[str, str]
) -> None:
    client.headers["Authorization"] = f"Bearer {tokens['small']}"
    sent = await client.post("/v1/jobs", content=encoded(noise(2, 2)), params={"scale": 16})
    job = await ended(client, sent.raise_for_status().json()["id"])
    assert (job["state"], job["problem"]["type"]) == ("failed", "urn:esrgan-serve:problem:key-limit")
    assert "job_bytes=100" in job["problem"]["detail"]
    assert job["pictures"][0]["result"] is None


async def test_a_key_has_few_requests_without_a_deadline(
    caller: httpx.AsyncClient, tokens: dict[str, str], blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.access.usage.MAX_LONG_LIVED", 1)
    shop, other = ({"Authorization": f"Bearer {tokens[name]}"} for name in ("shop", "other"))
    sent = await caller.post("/v1/jobs", content=encoded(noise(5, 5)), headers=shop)
    address = f"/v1/jobs/{sent.raise_for_status().json()['id']}"
    async with caller.stream("GET", f"{address}/events", headers=shop) as events:
        assert events.status_code == 200
        for path in (f"{address}/events", f"{address}/result", f"{address}/results/1", "/v1/jobs"):
            refused = await caller.get(path, headers=shop)
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:esrgan-serve:problem:key-limit")
        assert (await caller.get(address, headers=shop)).status_code == 200
        assert (await caller.get(f"{address}/events", headers=other)).status_code == 404
        blocked.gate.set()
        await events.aread()
    async with asyncio.timeout(60):
        while (await caller.get(f"{address}/result", headers=shop)).status_code == 429:
            pass


async def test_an_attempt_that_the_store_broke_is_not_charged(
    client: httpx.AsyncClient, tokens: dict[str, str], life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.worker.FULL_WAIT_S", 0.0)
    client.headers["Authorization"] = f"Bearer {tokens['shop']}"
    parts, errors = life.jobs.parts, [StoreDown("away")]
    put, records = parts.store.put, list[RequestRecord]()
    parts.runner.observers = [*parts.runner.observers, records.append]

    async def put_later(name: str, chunks: AsyncIterable[bytes]) -> int:
        size_bytes = await put(name, chunks)
        if errors:
            raise errors.pop()
        return size_bytes

    monkeypatch.setattr(parts.store, "put", put_later)
    async with listening(Peer(replies=[Reply(body=encoded(noise(20, 16)))])) as peer:  # 320 of 500 px a minute
        rules = AddressRules(hosts_of(f"127.0.0.1:{peer.port}"), setting="-", networks=[ip_network("127.0.0.0/8")])
        monkeypatch.setattr(parts.sources, "rules", rules)
        for attempts in (2, 1):
            sent = await client.post("/v1/jobs", json={"source": peer.address})
            job = await ended(client, sent.raise_for_status().json()["id"])
            assert (job["state"], job["pictures"][0]["attempts"]) == ("done", attempts)
            await until(lambda: bool(records) and records[-1].complete)  # and so was charged
            records.clear()
        spent = await client.post("/v1/jobs", json={"source": peer.address})
        assert (spent.status_code, "px_per_minute=500" in spent.json()["detail"]) == (429, True)


async def test_passes_of_a_model_that_was_not_loaded_yet_are_charged_at_the_end(
    client: httpx.AsyncClient,
    tokens: dict[str, str],
    life: Lifecycle,
    service: UpscaleService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.headers["Authorization"] = f"Bearer {tokens['shop']}"
    runner, charged = life.jobs.parts.runner, list[RequestRecord]()
    runner.observers = [*runner.observers, charged.append]
    monkeypatch.setattr(service.library.find("tiny"), "info", None)
    for _ in range(2):  # 17 times 25 of 500 px a minute
        sent = await client.post("/v1/jobs", content=encoded(noise(5, 5)), params={"scale": 16})
        assert (await ended(client, sent.raise_for_status().json()["id"]))["state"] == "done"
    await until(lambda: len(charged) == 2)  # which follows the recorded end
    spent = await client.post("/v1/jobs", content=encoded(noise(5, 5)))
    assert "px_per_minute=500" in problem(spent, 429, "key-limit")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/upscale"])
async def test_transparency_does_not_count_for_a_key(
    client: httpx.AsyncClient, tokens: dict[str, str], path: str
) -> None:
    headers = {"Authorization": f"Bearer {tokens['shop']}"}
    picture = encoded(noise(20, 16, mode="RGBA"))  # 320 of 500 px a minute
    (await client.post(path, content=picture, headers=headers)).raise_for_status()
    (await client.post(path, content=picture, headers=headers)).raise_for_status()
