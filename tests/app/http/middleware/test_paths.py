"""Paths: trailing slashes, HEAD, and a prefix that a proxy adds."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import ValidationError

from app.http.application import create_app
from app.settings import Settings
from tests.app.conftest import problem
from tests.app.in_process import client_of, without_models
from tests.app.live import Live

pytestmark = pytest.mark.anyio


def asking(settings: Settings) -> httpx.AsyncClient:
    """Make a client of a service that has not loaded anything; probes and documentation work anyway."""
    return client_of(create_app(without_models(settings)))


@pytest.fixture
async def unloaded() -> AsyncIterator[httpx.AsyncClient]:
    async with asking(Settings()) as client:
        yield client


READABLE = ["/livez", "/docs", "/openapi.json"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/livez/", "/docs/", "/openapi.json/", "/readyz/?a=b", "/livez//"])
async def test_a_trailing_slash_is_never_redirected(unloaded: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await unloaded.request(method, path, headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
    if method != "HEAD":
        assert "remove the trailing slash" in problem(answer, 404, "not-found")


async def test_a_trailing_slash_is_named_in_the_error(client: httpx.AsyncClient) -> None:
    for path in ("/v1/upscale/", "/v1/models/"):
        assert "remove the trailing slash" in problem(await client.post(path), 404, "not-found")


async def test_head_has_the_headers_of_get_on_every_path(client: httpx.AsyncClient) -> None:
    documented = (await client.get("/openapi.json")).json()["paths"]
    paths = [path for path, operations in documented.items() if "get" in operations]
    assert {"/livez", "/readyz", "/metrics", "/v1/models"} <= set(paths)
    for path in [*paths, "/docs", "/openapi.json", "/nothing", "/v1/nothing"]:
        of_get, of_head = await client.get(path), await client.head(path)
        assert of_head.content == b""
        assert of_head.status_code == of_get.status_code
        own = {"x-request-id", "content-length" if path == "/metrics" else "x-request-id"}
        assert {k: v for k, v in of_head.headers.items() if k not in own} == {
            k: v for k, v in of_get.headers.items() if k not in own
        }


async def test_head_is_not_allowed_where_get_is_not(client: httpx.AsyncClient) -> None:
    for path in ("/v1/upscale", "/v1/models/tiny/reload"):
        answer = await client.head(path)
        assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/job_1", "DELETE, GET, HEAD"),
        ("/v1/upscale", "POST"),
        ("/livez", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_all_that_are(
    client: httpx.AsyncClient, path: str, methods: str
) -> None:
    answer = await client.put(path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == methods


async def test_head_has_no_body_and_the_connection_stays_open(live: Live) -> None:
    caller = await live.connect()
    for method, path, status in [("HEAD", "/readyz", 200), ("HEAD", "/v1/models", 200), ("HEAD", "/nothing", 404)]:
        await caller.send(f"{method} {path} HTTP/1.1\nHost: a\n\n")
        head = await caller.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d" % status)
        assert b"content-length: 0\r\n" not in head
    for host in ("[", "[::1", "a]b", "a:b:c", "", "a" * 5000, "\N{SNOWMAN}"):  # the Host header is not used
        await caller.send(f"GET /nothing HTTP/1.1\nHost: {host}\n\n")
        assert await caller.status() == 404


@pytest.mark.parametrize("address", ["http://test/docs", "http://test/pictures/docs", "https://a.example/a/b/docs"])
async def test_the_document_names_its_own_location(unloaded: httpx.AsyncClient, address: str) -> None:
    # A proxy that removes its prefix forwards the same request for any prefix.
    page = (await unloaded.get("/docs")).text
    script = re.findall(r'src="(assets/docs-[^"]+)"', page)[0]
    assert 'url: "openapi.json"' in (await unloaded.get(f"/{script}")).text
    (server,) = (await unloaded.get("/openapi.json")).json()["servers"]
    at = urljoin(urljoin(address, "openapi.json"), server["url"]).rstrip("/")
    assert f"{at}/v1/upscale" == urljoin(address, "v1/upscale")


async def test_below_a_configured_prefix_both_kinds_of_proxy_work() -> None:
    async with asking(Settings(root_path="/a/pictures")) as client:
        for path in ("/openapi.json", "/a/pictures/openapi.json"):
            document = (await client.get(path)).json()
            assert [server["url"] for server in document["servers"]] == ["/a/pictures"]
            assert "/v1/upscale" in document["paths"]
        for path in READABLE:
            assert (await client.get(f"/a/pictures{path}")).status_code == 200
        problem(await client.post("/a/pictures/v1/upscale", content=b"x"), 503, "unavailable")  # as everywhere
        problem(await client.get("/a/pictureslivez"), 404, "not-found")
        problem(await client.get("/a/pictures"), 404, "not-found")


@pytest.mark.parametrize("prefix", ["pictures", "/", "/pictures/", "/a b", "//a", "/a?b", "http://a/b"])
def test_an_invalid_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=prefix)
