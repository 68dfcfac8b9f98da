"""Pages of other sites: those that may call the service, and the refusals of others."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from app.access.keys import new_key
from app.http.application import create_app
from app.http.middleware.browsers import BrowserGuardMiddleware
from app.lists import host_and_port_of, origins_of
from app.settings import Settings
from tests.app.conftest import decoded, encoded, noise, problem
from tests.app.http.protocol.plain_app import plain_app
from tests.app.in_process import client_of, without_models
from tests.app.live import Live, serving

pytestmark = pytest.mark.anyio

OURS = "https://app.example.com"
THEIRS = "https://evil.example"
ALLOWED = f"{OURS}, http://localhost:3000"
ALLOWING = {"cors_origins": origins_of(ALLOWED)}


def preflight(origin: str, method: str = "POST", *headers: str) -> dict[str, str]:
    """Return the headers of a preflight."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": ",".join(headers),
    }


def service(settings: Settings) -> httpx.AsyncClient:
    """Make a client of a service without a loaded model: requests that pass the guard get 503."""
    return client_of(create_app(without_models(settings)))


@pytest.fixture
async def unloaded() -> AsyncIterator[httpx.AsyncClient]:
    async with service(Settings(cors_origins=ALLOWED)) as client:
        yield client


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    life = without_models()
    app = plain_app(life, [])
    app.add_middleware(BrowserGuardMiddleware, origins=[OURS])
    async with serving(life, app) as it:
        yield it


@pytest.fixture
async def with_keys(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    _, line = new_key("shop")
    (tmp_path / "keys").write_text(line)
    async with service(Settings(keys=tmp_path / "keys", cors_origins=ALLOWED)) as client:
        yield client


async def test_a_preflight_needs_no_key_and_allows_the_headers_of_the_api(with_keys: httpx.AsyncClient) -> None:
    wanted = ("authorization", "prefer", "idempotency-key", "x-api-key", "content-type", "range", "last-event-id")
    answer = await with_keys.options("/v1/upscale", headers=preflight(OURS, "POST", *wanted))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == OURS
    assert "access-control-allow-credentials" not in answer.headers
    assert int(answer.headers["access-control-max-age"]) > 0
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(wanted) <= set(allowed)
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize("settings", [ALLOWING], indirect=True)
async def test_answers_and_errors_can_be_read_by_allowed_pages(client: httpx.AsyncClient) -> None:
    headers = {"Origin": OURS, "Sec-Fetch-Site": "cross-site"}
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers=headers)
    assert decoded(answer).size == (20, 20)
    refused = await client.post("/v1/upscale", content=b"x", headers=headers)
    problem(refused, 415, "unsupported-format")
    for it in (answer, refused):
        assert it.headers["access-control-allow-origin"] == OURS
        assert "Origin" in it.headers["vary"]


async def test_an_allowed_page_needs_a_key_like_everyone_and_can_read_that(with_keys: httpx.AsyncClient) -> None:
    answer = await with_keys.get("/metrics", headers={"Origin": OURS})
    problem(answer, 401, "unauthorized")
    assert answer.headers["access-control-allow-origin"] == OURS


async def test_even_an_unexpected_error_can_be_read() -> None:
    app = create_app(without_models(Settings(cors_origins=ALLOWED)))

    @app.get("/fault")
    async def fault() -> None:
        raise ArithmeticError

    async with client_of(app) as it:
        answer = await it.get("/fault", headers={"Origin": OURS})
    problem(answer, 500, "internal")
    assert answer.headers["access-control-allow-origin"] == OURS


async def test_every_header_of_an_answer_that_is_documented_can_be_read(unloaded: httpx.AsyncClient) -> None:
    document = (await unloaded.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    answers = [answer for operation in operations for answer in operation["responses"].values()]
    documented = {name.lower() for answer in answers for name in answer.get("headers", {})}
    assert {"x-request-id", "x-model", "etag", "retry-after"} <= documented
    answer = await unloaded.get("/livez", headers={"Origin": OURS})
    assert documented <= set(answer.headers["access-control-expose-headers"].lower().split(", "))


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        (preflight(THEIRS), THEIRS),
        (preflight("null"), "null"),
        (preflight(f"{OURS}.evil.example"), "evil"),
        (preflight(OURS, "PATCH"), "GET, HEAD, POST, DELETE"),
        (preflight(OURS, "POST", "x-else"), "Idempotency-Key"),
    ],
)
async def test_a_refused_preflight_says_what_is_allowed(
    unloaded: httpx.AsyncClient, headers: dict[str, str], named: str
) -> None:
    answer = await unloaded.options("/v1/upscale", headers=headers)
    assert named in problem(answer, 403, "cross-site")
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_without_the_setting_no_page_can_read_an_answer() -> None:
    async with service(Settings()) as client:
        for origin in (OURS, "http://test", "null"):
            for answer in (
                await client.options("/docs", headers=preflight(origin)),
                await client.get("/livez", headers={"Origin": origin}),
            ):
                assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_without_the_setting_a_preflight_names_it() -> None:
    async with service(Settings()) as client:
        said = problem(await client.options("/v1/upscale", headers=preflight(OURS)), 403, "cross-site")
        assert OURS in said
        assert "ESRGAN_CORS_ORIGINS" in said
        problem(await client.options("/docs", headers={"Origin": OURS}), 405, "method-not-allowed")


@pytest.mark.parametrize("path", ["/v1/upscale", "/v1/jobs", "/v1/models/tiny/reload"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3001"},
        {"Origin": THEIRS},
        {"Origin": "null"},
        {"Origin": "http://test:81"},
        {"Origin": "http://test", "Sec-Fetch-Site": "cross-site"},
    ],
    ids=json.dumps,
)
async def test_without_keys_a_page_of_another_site_sends_in_vain(
    unloaded: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await unloaded.post(path, content=b"x", headers=headers)
    assert "ESRGAN_CORS_ORIGINS" in problem(answer, 403, "cross-site")


@pytest.mark.parametrize(
    "headers",
    [
        {},  # not a browser
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://test"},
        {"Origin": "https://public.example", "X-Forwarded-Host": "public.example"},
        {"Origin": OURS, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    ],
    ids=json.dumps,
)
async def test_without_keys_others_and_allowed_pages_are_served(
    unloaded: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    problem(await unloaded.post("/v1/upscale", content=b"x", headers=headers), 503, "unavailable")


async def test_reading_is_left_to_the_browser(unloaded: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD"):
        answer = await unloaded.request(method, "/livez", headers={"Origin": THEIRS, "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200


async def test_a_name_that_was_made_to_mean_this_machine_is_refused(live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.address) as caller:
        for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3.4.5"):
            for path in ("/readyz", "/nothing"):
                answer = await caller.get(path, headers={"Host": f"{name}:{live.port}"})
                assert name in problem(answer, 421, "misdirected")


async def test_names_of_this_machine_and_of_proxies_on_it_are_served(live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.address) as caller:
        for name in ("localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "esrgan.localhost", "192.0.2.1"):
            assert (await caller.get("/readyz", headers={"Host": f"{name}:{live.port}"})).status_code == 200
        for host in ("upscale.example.com", "upscale.example.com:8080", ""):
            assert (await caller.get("/readyz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "https://*.example.com",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/page",
        "https://App.example.com",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://a.example https://b.example",
    ],
)
def test_only_exact_origins_can_be_allowed(value: str) -> None:
    with pytest.raises(ValidationError, match=r"as browsers send it, such as https://app\.example\.com"):
        Settings(cors_origins=value)


@pytest.mark.parametrize(
    "value", ["https://a.example:8443", "http://[::1]:3000", "chrome-extension://abcdef", "http://localhost:3000"]
)
def test_origins_of_all_kinds_can_be_allowed(value: str) -> None:
    assert Settings(cors_origins=value).cors_origins == (value,)


def guarded(server: tuple[str, int], host: str, published: str = "", **headers: str) -> int:
    """The status of a request that reached this address of the service by the name `host`."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("")(scope, receive, send)

    app = BrowserGuardMiddleware(served, [], host_and_port_of(published) if published else None)
    statuses: list[int] = []

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    sent = [(name.lower().encode(), value.encode()) for name, value in {"Host": host, **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "server": server, "headers": sent}
    asyncio.run(app(scope, asyncio.Queue[Message]().get, send))
    return statuses[0]


@pytest.mark.parametrize(
    ("server", "published"),
    [
        (("127.0.0.1", 8000), ""),
        (("::ffff:127.0.0.1", 8000), ""),
        (("172.18.0.2", 8000), "127.0.0.1:8000"),  # in a container
        (("127.0.0.1", 8001), "localhost:8000"),  # behind a balancer
        (("127.0.0.1", 8001), "[::1]:8000"),
    ],
)
def test_rebound_names_are_refused_wherever_the_port_is_published(server: tuple[str, int], published: str) -> None:
    assert guarded(server, "evil.example:8000", published) == 421
    for host in ("localhost:8000", "127.0.0.1:8000", "esrgan:8000", "upscale.example.com"):
        assert guarded(server, host, published) == 200


def test_a_container_that_is_published_to_the_network_is_called_by_any_name() -> None:
    assert guarded(("172.18.0.2", 8000), "server.example:8000", "0.0.0.0:8000") == 200


def test_an_origin_that_is_no_address_is_refused() -> None:
    assert guarded(("127.0.0.1", 8000), "localhost:8000", Origin="http://[") == 403
