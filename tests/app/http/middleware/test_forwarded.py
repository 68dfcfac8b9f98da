"""Headers of proxies: trusted proxies, and the parts of the headers that count."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.datastructures import Headers

from app.http.application import create_app
from app.http.middleware.context import RequestContextMiddleware
from app.http.middleware.forwarded import ForwardedMiddleware, address_of, prefix_in
from app.lifecycle import Lifecycle
from app.lists import networks_of
from app.record import RequestRecord
from app.settings import Settings
from app.telemetry.logs import access_fields
from tests.app.conftest import encoded, noise
from tests.app.in_process import client_of, started

pytestmark = pytest.mark.anyio

TRUSTED = Settings(trusted_proxies="127.0.0.1, 10.0.0.0/8, ::1").trusted_proxies
CLIENT = "203.0.113.7"
FORGED = "192.0.2.66"


async def seen(headers: list[tuple[str, str]], peer: str = "127.0.0.1") -> RequestRecord:
    """Return the record of a request with these headers."""
    records: list[RequestRecord] = []
    app = FastAPI()
    app.add_middleware(RequestContextMiddleware, observers=[records.append])
    app.add_middleware(ForwardedMiddleware, trusted=TRUSTED)
    async with client_of(app, (peer, 1234)) as it:
        await it.get("/", headers=headers)
    (record,) = records
    return record


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], "127.0.0.1"),
        ([("X-Forwarded-For", CLIENT)], CLIENT),
        ([("X-Forwarded-For", f"{FORGED}, {CLIENT}")], CLIENT),
        ([("X-Forwarded-For", f"{FORGED}, {CLIENT}, 10.1.2.3")], CLIENT),
        ([("X-Forwarded-For", FORGED), ("X-Forwarded-For", f"{CLIENT},10.1.2.3")], CLIENT),
        ([("X-Forwarded-For", f"{CLIENT}:4711")], CLIENT),
        ([("X-Forwarded-For", "2001:DB8::1")], "2001:db8::1"),
        ([("X-Forwarded-For", "[2001:db8::1]:4711")], "2001:db8::1"),
        ([("X-Forwarded-For", f"::ffff:{CLIENT}")], CLIENT),
        ([("X-Forwarded-For", "10.9.9.9, 10.1.2.3")], "10.9.9.9"),
        ([("X-Forwarded-For", f"{FORGED}, unknown, 10.1.2.3")], "10.1.2.3"),
        ([("X-Forwarded-For", "nonsense")], "127.0.0.1"),
        ([("X-Forwarded-For", "")], "127.0.0.1"),
        ([("Forwarded", f"for={CLIENT};proto=https")], CLIENT),
        ([("Forwarded", f'for={FORGED}, For="[2001:db8::1]:47"; proto=https, for=10.0.0.1')], "2001:db8::1"),
        ([("Forwarded", f"for={CLIENT}, for=_hidden")], "127.0.0.1"),
        ([("Forwarded", f"for={CLIENT}"), ("X-Forwarded-For", CLIENT)], CLIENT),
        ([("Forwarded", f"for={FORGED}"), ("X-Forwarded-For", CLIENT)], "127.0.0.1"),
    ],
)
async def test_the_caller_is_the_right_most_address_that_is_not_trusted(
    headers: list[tuple[str, str]], client: str
) -> None:
    record = await seen(headers)
    assert (record.client, record.peer) == (client, "127.0.0.1")


@pytest.mark.parametrize("peer", [FORGED, "11.0.0.1", "::2"])
async def test_nothing_is_believed_from_others(peer: str) -> None:
    record = await seen(
        [("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https"), ("Forwarded", f"for={CLIENT}")], peer
    )
    assert (record.client, record.peer, record.scheme) == (peer, "", "http")


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([("X-Forwarded-Proto", "https")], "http"),  # without an address it is unclear whose scheme it is
        ([("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https")], "https"),
        ([("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "gopher")], "http"),
        ([("X-Forwarded-For", f"{FORGED}, {CLIENT}, 10.0.0.1"), ("X-Forwarded-Proto", "ws, https, http")], "https"),
        ([("X-Forwarded-For", f"{CLIENT}, 10.0.0.1"), ("X-Forwarded-Proto", "http, http, https")], "https"),
        ([("Forwarded", f"for={FORGED};proto=ftp, for={CLIENT};proto=HTTPS, for=10.0.0.1;proto=http")], "https"),
    ],
)
async def test_the_scheme_is_that_of_the_caller(headers: list[tuple[str, str]], scheme: str) -> None:
    assert (await seen(headers)).scheme == scheme


async def test_the_log_has_the_caller_and_the_proxy() -> None:
    fields = access_fields(await seen([("X-Forwarded-For", CLIENT)]))
    assert (fields["client"], fields["peer"]) == (CLIENT, "127.0.0.1")
    assert "peer" not in access_fields(await seen([], FORGED))


@pytest.mark.parametrize("node", ["", "[", "[::1", "::1]", "1.2.3", "1.2.3.4:x", "1.2.3.4 5", "a", "1" * 300, "[]:1"])
def test_what_is_no_address_is_none(node: str) -> None:
    assert address_of(node) is None


@pytest.mark.parametrize(
    ("sent", "prefix"),
    [
        (["/pictures"], "/pictures"),
        (["/pictures/"], "/pictures"),
        (["/outer, /inner"], "/outer/inner"),
        (["/outer", "/inner"], "/outer/inner"),
        ([], ""),
        (["/"], ""),
        (["pictures"], ""),
        (["//evil.example"], ""),
        (["https://evil.example"], ""),
        (["/a\\b"], ""),
        (["/" + "a" * 300], ""),
    ],
)
def test_a_prefix_is_a_path_on_this_host(sent: list[str], prefix: str) -> None:
    assert prefix_in(Headers(raw=[(b"x-forwarded-prefix", value.encode()) for value in sent])) == prefix


@pytest.fixture
async def behind_a_proxy(life: Lifecycle, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    life.settings = settings.model_copy(update={"trusted_proxies": networks_of("127.0.0.1")})
    async with started(create_app(life)) as it:
        it.headers["X-Forwarded-Prefix"] = "/pictures"
        yield it


@pytest.mark.parametrize("path", ["", "/pictures"], ids=["removed", "kept"])
async def test_addresses_in_answers_have_the_prefix_of_the_proxy(behind_a_proxy: httpx.AsyncClient, path: str) -> None:
    answer = await behind_a_proxy.post(f"{path}/v1/jobs", content=encoded(noise(5, 5)))
    job = answer.json()["id"]
    assert answer.headers["location"] == f"/pictures/v1/jobs/{job}"
    await behind_a_proxy.post(f"{path}/v1/jobs", content=encoded(noise(5, 5)))
    listed = (await behind_a_proxy.get(f"{path}/v1/jobs?limit=1")).json()
    assert listed["next"].startswith("/pictures/v1/jobs?")


async def test_a_prefix_of_a_stranger_changes_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=encoded(noise(5, 5)), headers={"X-Forwarded-Prefix": "/evil"})
    assert answer.headers["location"].startswith("/v1/jobs/")


@pytest.mark.parametrize("value", ["localhost", "10.0.0.0/33", "10.0.0.1/8", "1.2.3.4,x"])
def test_only_addresses_and_networks_can_be_trusted(value: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies=value)


@pytest.mark.parametrize("schemes", ["https", "https, http", "https, http, http"])
async def test_headers_of_both_kinds_and_different_lengths_are_read_each_by_its_own_place(schemes: str) -> None:
    record = await seen(
        [
            ("Forwarded", f"for={FORGED}, for={CLIENT}"),
            ("X-Forwarded-For", CLIENT),
            ("X-Forwarded-Proto", schemes),
        ]
    )
    assert record.client == CLIENT
