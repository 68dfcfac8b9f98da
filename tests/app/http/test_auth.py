"""API keys over HTTP: accepted and refused requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from app.access.keys import Right, new_key
from app.http.application import create_app
from app.http.auth import Authorizer
from app.http.middleware.context import RequestContextMiddleware
from app.http.middleware.failures import FailureMiddleware
from app.http.problems import add_problem_handlers
from app.lifecycle import Lifecycle
from app.service import UpscaleService
from app.settings import Settings
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.in_process import client_of, started, without_models

pytestmark = pytest.mark.anyio


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Tokens by the names of their keys, which are in the file `keys`."""
    keys = {
        "shop": new_key("shop"),
        "boss": new_key("boss", ["role=operator"]),
        "watch": new_key("watch", ["role=monitor"]),
        "slow": new_key("slow", ["requests_per_minute=2"]),
        "small": new_key("small", ["px_per_minute=100"]),
        "alone": new_key("alone", ["concurrent=1"]),
    }
    (tmp_path / "keys").write_text("\n".join(line for _, line in keys.values()))
    return {name: token for name, (token, _) in keys.items()}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path, tokens: dict[str, str]) -> Settings:
    return settings.model_copy(update={"keys": tmp_path / "keys"})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_key_is_taken_from_either_header(client: httpx.AsyncClient, tokens: dict[str, str]) -> None:
    behind_a_proxy = {"X-Api-Key": tokens["shop"], "Authorization": "Basic YTpi"}
    for headers in (bearer(tokens["shop"]), {"X-Api-Key": tokens["shop"]}, behind_a_proxy):
        assert decoded(await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers=headers)).size == (20, 20)


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], 'Bearer realm="esrgan-serve"'),
        ([("Authorization", "Bearer wrong")], 'Bearer realm="esrgan-serve", error="invalid_token"'),
        ([("Authorization", "Bearer ")], 'Bearer realm="esrgan-serve", error="invalid_token"'),
        ([("Authorization", "Basic YTpi")], 'Bearer realm="esrgan-serve"'),
        (
            [("Authorization", "Bearer a"), ("Authorization", "Bearer a")],
            'Bearer realm="esrgan-serve", error="invalid_token"',
        ),
        ([("X-Api-Key", "")], 'Bearer realm="esrgan-serve", error="invalid_token"'),
        ([("X-Api-Key", "a"), ("Authorization", "Bearer b")], 'Bearer realm="esrgan-serve", error="invalid_token"'),
    ],
)
async def test_without_a_valid_key_the_answer_is_401(
    client: httpx.AsyncClient, headers: list[tuple[str, str]], challenge: str
) -> None:
    for method, path in (("POST", "/v1/upscale"), ("GET", "/v1/models")):
        answer = await client.request(method, path, headers=headers)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == challenge


async def test_the_body_of_an_unauthorized_request_is_not_read(client: httpx.AsyncClient) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append("the body")
        yield b""

    problem(await client.post("/v1/upscale?colour=red", content=body()), 401, "unauthorized")
    assert not read


async def test_probes_and_documentation_need_no_key(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert (await client.get(path)).status_code == 200


async def test_each_role_has_its_rights(client: httpx.AsyncClient, tokens: dict[str, str]) -> None:
    assert (await client.get("/v1/models", headers=bearer(tokens["boss"]))).status_code == 200
    detail = problem(await client.get("/v1/models", headers=bearer(tokens["watch"])), 403, "forbidden")
    assert "the key watch has the role monitor, which may not upscale pictures" in detail


async def test_limits_are_named_with_retry_after(client: httpx.AsyncClient, tokens: dict[str, str]) -> None:
    for _ in range(2):
        assert (await client.get("/v1/models", headers=bearer(tokens["slow"]))).status_code == 200
    answer = await client.get("/v1/models", headers=bearer(tokens["slow"]))
    assert "requests_per_minute=2" in problem(answer, 429, "key-limit")
    assert 28 <= int(answer.headers["retry-after"]) <= 30

    picture = {"content": encoded(noise(20, 10)), "headers": bearer(tokens["small"])}
    decoded(await client.post("/v1/upscale", **picture))  # type: ignore[arg-type]  # of a dict of both
    answer = await client.post("/v1/upscale", **picture)  # type: ignore[arg-type]
    assert "px_per_minute=100" in problem(answer, 429, "key-limit")
    assert 58 <= int(answer.headers["retry-after"]) <= 61


async def test_an_ensemble_takes_eight_times_its_px_from_its_key(
    client: httpx.AsyncClient, tokens: dict[str, str]
) -> None:
    headers, upload = bearer(tokens["small"]), encoded(noise(5, 4))
    for query in ("", "?ensemble=true"):  # 20 px of 100, then 160
        assert (await client.post(f"/v1/upscale{query}", content=upload, headers=headers)).status_code == 200
    answer = await client.get("/v1/models", headers=headers)
    assert "px_per_minute=100" in problem(answer, 429, "key-limit")
    assert 45 <= int(answer.headers["retry-after"]) <= 50


async def test_a_request_counts_for_its_key_until_it_is_answered(
    client: httpx.AsyncClient, tokens: dict[str, str]
) -> None:
    reading, gate = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        reading.set()
        await gate.wait()
        yield encoded(noise(5, 5))

    headers = bearer(tokens["alone"])
    first = asyncio.create_task(client.post("/v1/upscale", content=slow_body(), headers=headers))
    await reading.wait()
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers=headers)
    assert "concurrent=1" in problem(answer, 429, "key-limit")
    assert answer.headers["retry-after"] == "1"
    gate.set()
    decoded(await first)
    problem(await client.post("/v1/upscale", content=b"rubbish", headers=headers), 415, "unsupported-format")
    decoded(await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers=headers))


async def test_the_documentation_describes_both_headers(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/v1/upscale"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert "security" not in document["paths"]["/readyz"]["get"]


def administered(settings: Settings) -> httpx.AsyncClient:
    """Make a client of an application whose only endpoint is for operators."""
    app = FastAPI()
    app.add_middleware(FailureMiddleware)
    app.add_middleware(RequestContextMiddleware)
    add_problem_handlers(app)
    operator = Authorizer(settings).require(Right.ADMINISTER)

    @app.post("/admin")
    async def admin(_: Annotated[None, Depends(operator)]) -> str:
        return "done"

    return client_of(app)


async def test_only_an_operator_may_administer(settings: Settings, tokens: dict[str, str]) -> None:
    async with administered(settings) as client:
        assert (await client.post("/admin", headers=bearer(tokens["boss"]))).status_code == 200
        problem(await client.post("/admin", headers=bearer(tokens["shop"])), 403, "forbidden")
        problem(await client.post("/admin"), 401, "unauthorized")


async def test_without_keys_only_this_machine_may_administer(settings: Settings) -> None:
    open_to_all = settings.model_copy(update={"keys": None})
    async with administered(open_to_all) as client:
        assert (await client.post("/admin")).status_code == 200
    async with administered(open_to_all.model_copy(update={"host": "0.0.0.0"})) as client:
        assert "set ESRGAN_KEYS" in problem(await client.post("/admin"), 403, "forbidden")


async def test_without_keys_a_sent_key_is_ignored(service: UpscaleService, settings: Settings) -> None:
    life = Lifecycle.of(service)
    life.settings = settings.model_copy(update={"keys": None})
    async with started(create_app(life)) as it:
        assert (await it.get("/v1/models", headers=bearer("whatever"))).status_code == 200


PROXIED = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Prefix",
    "X-Real-IP",
    "Via",
    "X-Client-IP",
    "X-Original-Forwarded-For",
    "X-Envoy-External-Address",
    "CF-Connecting-IP",
    "True-Client-IP",
    "CDN-Loop",
    "X-ProxyUser-Ip",
    "WL-Proxy-Client-IP",
    "X-Azure-ClientIP",
    "X-Appengine-User-Ip",
    "X_Forwarded_For",
]


@pytest.mark.parametrize("header", PROXIED)
async def test_without_keys_administration_through_a_proxy_is_refused(settings: Settings, header: str) -> None:
    async with administered(settings.model_copy(update={"keys": None})) as client:
        for value in ("192.0.2.7", "127.0.0.1", ""):
            detail = problem(await client.post("/admin", headers={header: value}), 403, "forbidden")
            assert header.lower() in detail
            assert "set ESRGAN_KEYS" in detail
        assert (await client.post("/admin", headers={"X-Forward": "a", "Viable": "b"})).status_code == 200


async def test_through_a_proxy_an_operator_may_administer_with_a_key(
    settings: Settings, tokens: dict[str, str]
) -> None:
    async with administered(settings) as client:
        answer = await client.post("/admin", headers=bearer(tokens["boss"]) | {"X-Forwarded-For": "192.0.2.7"})
        assert answer.status_code == 200


async def test_without_keys_the_metrics_are_for_direct_callers_only(settings: Settings) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        open_to_all = settings.model_copy(update={"keys": None, "host": host, "allow_anonymous": True})
        async with client_of(create_app(without_models(open_to_all))) as it:
            assert (await it.get("/metrics")).status_code == 200
            problem(await it.get("/metrics", headers={"X-Real-IP": "192.0.2.7"}), 403, "forbidden")
