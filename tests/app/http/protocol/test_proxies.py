"""The proxies of docs/deploy.md in front of the service, with the configurations shown there."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.record import RequestRecord
from app.settings import Settings
from tests.app.http.protocol.plain_app import WHOLE, plain_app
from tests.app.in_process import without_models
from tests.app.live import Live, serving, until
from tests.app.processes import free_port, is_ready

pytestmark = pytest.mark.anyio

CONFIGURATIONS = Path(__file__).parents[4] / "docker" / "proxy"

AS_IT_COMES = "server { listen 8080; client_max_body_size 32m; location / { proxy_pass http://127.0.0.1:8000; } }"
"""nginx with its defaults: HTTP/1.0 to the service, and everything buffered."""

NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr; worker_rlimit_nofile 200;
events {{ worker_connections 100; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    {server}
}}
"""


@pytest.fixture
def records() -> list[RequestRecord]:
    return []


@pytest.fixture
async def live(records: list[RequestRecord]) -> AsyncIterator[Live]:
    life = without_models(Settings(trusted_proxies="127.0.0.1"))
    async with serving(life, plain_app(life, records), [records.append]) as it:
        yield it


@contextmanager
def running(command: list[str], configuration: Path, text: str, live: Live) -> Iterator[str]:
    """Run a proxy in front of the service; yields its address."""
    if shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip(f"{command[0]} is not installed")
    port = free_port()
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{live.port}").replace("127.0.0.1:8001", "127.0.0.1:1")
    here = f"http://127.0.0.1:{port}" if command[0] == "caddy" else f"127.0.0.1:{port}"
    configuration.write_text(text.replace(":8080", here).replace("listen 8080", f"listen {here}"))
    with configuration.with_suffix(".log").open("w") as log:
        folder = configuration.parent
        homes = {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}  # Caddy keeps its configuration there
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ | homes)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


CADDY_ALONE = "\n{\n\tadmin off\n\tauto_https off\n"
"""The beginning of its block of options, with those of a test."""


def skip_old_caddy() -> None:
    program = shutil.which("caddy")
    version = program and subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    if version and re.match(r"v?2\.[0-6]\.", version):
        pytest.skip(f"Caddy {version.split()[0]} passes half an answer on as a whole one")


@pytest.fixture(params=["as it comes", "nginx.conf", "haproxy.cfg", "Caddyfile"])
def proxy(request: pytest.FixtureRequest, live: Live, tmp_path: Path) -> Iterator[str]:
    if request.param == "haproxy.cfg":
        file = tmp_path / "haproxy.cfg"
        text = (CONFIGURATIONS / request.param).read_text()
        with running(["haproxy", "-db", "-f", str(file)], file, text, live) as it:
            yield it
    elif request.param == "Caddyfile":
        skip_old_caddy()
        file = tmp_path / "Caddyfile"
        text = (CONFIGURATIONS / request.param).read_text().replace("\n{\n", CADDY_ALONE, 1)
        with running(["caddy", "run", "--adapter", "caddyfile", "--config", str(file)], file, text, live) as it:
            yield it
    else:
        file = tmp_path / "nginx.conf"
        server = AS_IT_COMES if request.param == "as it comes" else (CONFIGURATIONS / request.param).read_text()
        text = NGINX.format(server=server)
        with running(["nginx", "-p", str(tmp_path), "-c", str(file)], file, text, live) as it:
            yield it


@pytest.fixture
async def caller(proxy: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy, timeout=20) as it:
        await until(lambda: is_ready(it), within_s=20, pause_s=0.05)
        yield it


async def test_an_answer_arrives_complete_or_with_a_visible_error(
    caller: httpx.AsyncClient, records: list[RequestRecord]
) -> None:
    assert (await caller.get("/whole")).content == WHOLE
    for name in ("deadline", "fault"):
        with pytest.raises(httpx.TransportError):
            await caller.get(f"/broken/{name}")


@pytest.mark.parametrize(
    "proxy", ["as it comes", "nginx.conf", "haproxy.cfg"], indirect=True
)  # not Caddy: see the docs
async def test_an_early_refusal_reaches_the_caller(caller: httpx.AsyncClient) -> None:
    refused = await caller.post("/refused", content=bytes(30_000_000))
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_caller_that_leaves_is_noticed(caller: httpx.AsyncClient, live: Live) -> None:
    leaving = asyncio.create_task(caller.post("/wait", content=bytes(1000)))
    await until(lambda: live.life.accepted == 1)
    leaving.cancel()
    await until(lambda: live.life.accepted == 0, within_s=20)  # less than the timeouts of the proxies


CONFIGURED = ["nginx.conf", "haproxy.cfg", "Caddyfile"]


@pytest.mark.parametrize("proxy", CONFIGURED, indirect=True)
async def test_the_service_learns_the_address_of_the_caller_and_not_what_it_says(
    caller: httpx.AsyncClient, proxy: str
) -> None:
    forged = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=192.0.2.2;proto=https",
    }
    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")  # the address of the proxy is trusted, this is not
    async with httpx.AsyncClient(base_url=proxy, transport=elsewhere) as it:
        answer = await it.get("/seen", headers=forged)
    assert answer.json() == {"client": "127.0.0.2", "scheme": "http", "prefix": ""}


@pytest.mark.parametrize("proxy", CONFIGURED, indirect=True)
async def test_operator_endpoints_are_closed_through_the_proxy(caller: httpx.AsyncClient) -> None:
    assert (await caller.get("/metrics")).status_code == 403
    assert (await caller.post("/v1/models/compact-psnr-x4/reload")).status_code == 403
    assert (await caller.get("/path")).status_code == 200
