"""docker/haproxy: requests that HAProxy retries on another replica, and the answers if it cannot."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.errors import DeadlinePassed, ServiceError, TooSlow, Unavailable
from tests.app.live import until
from tests.app.processes import free_port, is_ready

CONFIGURATION = Path(__file__).parents[4] / "docker" / "haproxy"
ERROR_FILES = dict(re.findall(r"(?m)^    errorfile (\d+) (\S+)$", (CONFIGURATION / "haproxy.cfg").read_text("utf-8")))

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="HAProxy is not installed"
    ),
]


@dataclass
class Replica:
    """A server that is ready, reads requests other than probes, and breaks off without an answer `breaks` times."""

    breaks: int
    begun: int = 0
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        await self._answer(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if not head.startswith("get /readyz"):
                self.begun += 1
                length = next(line for line in head.splitlines() if line.startswith("content-length"))
                await reader.readexactly(int(length.split(":")[1]))
                if self.begun <= self.breaks:
                    return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()


@pytest.fixture
def replica(request: pytest.FixtureRequest) -> Replica:
    return Replica(breaks=getattr(request, "param", 1))


@pytest.fixture
def front_and_stats() -> tuple[str, str]:
    """Free addresses for callers and for Prometheus."""
    port = free_port(2)
    return f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"


@pytest.fixture
async def client(
    replica: Replica, front_and_stats: tuple[str, str], tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    front, stats = front_and_stats
    async with await asyncio.start_server(replica.serve, "127.0.0.1", 0, limit=2**20) as server:
        port = server.sockets[0].getsockname()[1]
        servers = tmp_path / "servers.cfg"
        servers.write_text(f"backend esrgan\n    server one 127.0.0.1:{port}\n    server two 127.0.0.1:{port}\n")
        command = ["haproxy", "-db", "-f", str(CONFIGURATION / "haproxy.cfg"), "-f", str(servers)]
        path = f"{os.environ['PATH']}:/usr/sbin"
        environment = os.environ | {"FRONT": front, "STATS": stats, "PATH": path}
        process = subprocess.Popen(command, env=environment)  # noqa: ASYNC220  # starts quickly
        try:
            # HAProxy answers such a failure to the first request of a connection; later ones find it closed.
            once = httpx.Limits(max_keepalive_connections=0)
            async with httpx.AsyncClient(base_url=f"http://{front}", timeout=20, limits=once) as it:
                await until(lambda: is_ready(it), within_s=20, pause_s=0.05)
                yield it
        finally:
            process.terminate()
            process.wait(timeout=60)
            server.close()
            await asyncio.sleep(0.05)  # connections that were just accepted begin
            await until(lambda: replica.open == 0)


async def test_a_picture_that_a_replica_dropped_is_sent_to_another(client: httpx.AsyncClient, replica: Replica) -> None:
    answer = await client.post("/v1/upscale", content=bytes(200_000))
    assert (answer.status_code, replica.begun) == (200, 2)


@pytest.mark.parametrize("replica", [10], indirect=True)
async def test_a_picture_that_ends_replicas_ends_two_at_most(client: httpx.AsyncClient, replica: Replica) -> None:
    answer = await client.post("/v1/upscale", content=b"picture")
    assert (answer.status_code, replica.begun) == (503, 2)


async def test_a_deletion_is_never_sent_again(client: httpx.AsyncClient, replica: Replica) -> None:
    answer = await client.request("DELETE", "/v1/jobs/one", content=b"nothing")
    assert (answer.status_code, replica.begun) == (503, 1)


JOB_REQUESTS = [("/v1/jobs", {}), ("/prefix/v1/jobs", {}), ("/v1/upscale", {"Prefer": "wait=5, respond-async"})]


@pytest.mark.parametrize(("path", "headers"), JOB_REQUESTS)
async def test_a_job_is_sent_twice_only_with_an_idempotency_key(
    client: httpx.AsyncClient, replica: Replica, path: str, headers: dict[str, str]
) -> None:
    answer = await client.post(path, content=b"picture", headers=headers)
    assert (answer.status_code, replica.begun) == (503, 1)
    replica.breaks = 2
    answer = await client.post(path, content=b"picture", headers=headers | {"Idempotency-Key": "1"})
    assert (answer.status_code, replica.begun) == (200, 3)


@pytest.mark.parametrize("replica", [10], indirect=True)
async def test_what_cannot_be_sent_again_gets_a_problem_document_with_retry_after(
    client: httpx.AsyncClient, replica: Replica
) -> None:
    answer = await client.post("/v1/upscale", content=bytes(400_000))
    assert (answer.status_code, replica.begun) == (503, 1)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["type"] == "urn:esrgan-serve:problem:unavailable"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("408", TooSlow),
        ("500", Unavailable),
        ("502", Unavailable),
        ("503", Unavailable),
        ("504", DeadlinePassed),
    ],
)
def test_errors_of_haproxy_are_those_of_the_service(status: str, error: type[ServiceError]) -> None:
    head, body = (CONFIGURATION / ERROR_FILES[status]).read_bytes().split(b"\n\n")
    line, *headers = head.decode("ascii").split("\n")
    sent = json.loads(body)
    assert line.split()[:2] == ["HTTP/1.1", str(error.status)]
    assert {"Content-Type: application/problem+json", f"Content-Length: {len(body)}"} <= set(headers)
    assert (sent["type"], sent["title"]) == (f"urn:esrgan-serve:problem:{error.type}", error.title)
    assert sent["status"] == error.status


async def test_idle_connections_shut_nobody_out(client: httpx.AsyncClient, front_and_stats: tuple[str, str]) -> None:
    port, within_s = client.base_url.port, 30  # less than the 45 s after which HAProxy closes them
    with ExitStack() as idle:
        for _ in range(600):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        assert (await client.get("/readyz", timeout=within_s)).is_success
        assert (await client.get(f"http://{front_and_stats[1]}/metrics", timeout=within_s)).is_success
