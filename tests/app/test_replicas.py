"""`python -m app replicas` with the real HAProxy: nothing is lost while replicas die and are replaced."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from app.replicas import Supervised, replica_environment, replica_ports
from app.settings import SettingsError
from tests.app.conftest import encoded, noise, write_tiny_model
from tests.app.live import until
from tests.app.processes import ROOT, START_S, free_port, is_ready, refusal, variables

pytestmark = pytest.mark.anyio

needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="HAProxy is not installed"
)


def command_of(pid: str) -> bytes:
    """Return the command of a process; "haproxy", to exclude it, if it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"haproxy"


@dataclass(frozen=True)
class Fleet:
    """A running `python -m app replicas 2`."""

    process: "subprocess.Popen[bytes]"
    port: int

    def replicas(self) -> list[int]:
        """Return the process ids of the replicas."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"haproxy" not in command_of(child)]

    async def until(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        def holds_while_running() -> bool | Awaitable[bool]:
            assert self.process.poll() is None
            return holds()

        await until(holds_while_running, within_s=START_S, pause_s=0.05)

    async def until_ready(self, client: httpx.AsyncClient) -> None:
        """Wait until both replicas are ready and HAProxy, which checks them twice a second, has seen it."""
        for port in (self.port + 1, self.port + 2):
            await self.until(partial(is_ready, client, f"http://127.0.0.1:{port}"))
        await self.until(partial(self.are_up, client))

    async def are_up(self, client: httpx.AsyncClient) -> bool:
        """Return whether HAProxy sends requests to both replicas."""
        text = (await client.get(f"http://127.0.0.1:{self.port + 3}/metrics")).text
        return len(re.findall(r'haproxy_server_status\{proxy="esrgan",server="replica\d",state="UP"\} 1', text)) == 2


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    port, folder = free_port(4), tmp_path_factory.mktemp("models")
    write_tiny_model(folder, "tiny")
    environment = variables(
        models=folder,
        port=port,
        precision="float32",
        threads=1,
        leave_s=1,
        jobs_folder=tmp_path_factory.mktemp("jobs"),
        jobs_min_free_bytes=0,
    )
    process = subprocess.Popen([sys.executable, "-m", "app", "replicas", "2"], cwd=ROOT, env=environment)
    try:
        yield Fleet(process, port)
        process.terminate()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{fleet.port}", timeout=60) as it:
        await fleet.until_ready(it)
        yield it


@dataclass
class Load:
    """Requests of several callers, and the unexpected answers."""

    answered: int = 0
    cut_off: int = 0
    """Answers cut off, as their callers saw: an answer that has begun cannot be retried on another replica."""
    wrong: list[str] = field(default_factory=list)


@asynccontextmanager
async def under_load(client: httpx.AsyncClient, callers: int = 4) -> AsyncIterator[Load]:
    """Send pictures to the fleet during the block, and compare each answer with the first one to the same picture."""
    pictures = [encoded(noise(24, 16 + seed, seed=seed)) for seed in range(callers)]
    expected = [(await client.post("/v1/upscale", content=picture)).content for picture in pictures]
    load, over = Load(), asyncio.Event()

    async def call(number: int) -> None:
        while not over.is_set():
            try:
                answer = await client.post("/v1/upscale", content=pictures[number])
            except httpx.RemoteProtocolError as error:
                if "without sending complete message body" not in str(error):
                    load.wrong.append(repr(error))
                load.cut_off += 1
                continue
            load.answered += 1
            if answer.status_code != 200 or answer.content != expected[number]:
                load.wrong.append(f"{answer.status_code} {answer.text[:200]}")

    calls = [asyncio.create_task(call(number)) for number in range(callers)]
    try:
        yield load
    finally:
        over.set()
        await asyncio.gather(*calls)


@needs_haproxy
async def test_an_answer_through_the_balancer_is_that_of_one_process(fleet: Fleet, client: httpx.AsyncClient) -> None:
    pictures = [encoded(noise(30, 20)), encoded(noise(90, 200, mode="RGBA"))]
    for picture in pictures:
        answers = [await client.post("/v1/upscale", content=picture) for _ in range(4)]
        ports = (fleet.port + 1, fleet.port + 2)
        answers += [await client.post(f"http://127.0.0.1:{port}/v1/upscale", content=picture) for port in ports]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len({answer.headers["x-model"] for answer in answers}) == 1


@needs_haproxy
async def test_what_reaches_one_replica_only_is_refused_through_the_balancer(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/metrics"), await client.post("/v1/models/tiny/reload")):
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert "one replica only" in answer.json()["detail"]


@needs_haproxy
async def test_a_job_is_seen_through_every_replica(fleet: Fleet, client: httpx.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", files=[("image", encoded(noise(20, 20)))])).raise_for_status().json()
    for port in (fleet.port + 1, fleet.port + 2):
        seen = await client.get(f"http://127.0.0.1:{port}/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
        assert seen.json()["id"] == job["id"]


@needs_haproxy
async def test_the_metrics_of_the_balancer_show_its_replicas(fleet: Fleet, client: httpx.AsyncClient) -> None:
    assert await fleet.are_up(client)


@needs_haproxy
async def test_a_replica_that_is_killed_under_load_loses_no_request_whose_answer_had_not_begun(
    fleet: Fleet, client: httpx.AsyncClient
) -> None:
    before = fleet.replicas()
    async with under_load(client) as load:
        await fleet.until(lambda: load.answered >= 20)
        os.kill(before[0], signal.SIGKILL)
        await fleet.until(lambda: len(set(fleet.replicas()) - set(before)) == 1)
        await fleet.until_ready(client)
    assert load.wrong == []


@needs_haproxy
async def test_replicas_that_are_replaced_under_load_lose_no_request(fleet: Fleet, client: httpx.AsyncClient) -> None:
    before = fleet.replicas()
    async with under_load(client) as load:
        await fleet.until(lambda: load.answered >= 20)
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.until(lambda: len(set(fleet.replicas()) - set(before)) == 2)
        await fleet.until_ready(client)
    assert (load.wrong, load.cut_off) == ([], 0)


async def test_settings_that_become_wrong_later_do_not_end_the_other_replicas(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    script = f"echo >> {starts}; [ $(wc -l < {starts}) = 1 ] && exit 1; exit 2"
    replica = Supervised("replica 0", ["sh", "-c", script], os.environ, fatal_status=2)
    running = asyncio.create_task(replica.run())
    await until(lambda: starts.exists() and starts.read_text().count("\n") == 2)
    await replica.ended()
    replica.stop(signal.SIGTERM)
    await running


def test_a_machine_without_haproxy_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from app import replicas

    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(SettingsError, match="apt-get install haproxy"):
        replicas.find_haproxy()


def test_a_wrong_number_of_replicas_is_reported_in_one_line() -> None:
    assert "'many' is not a number of replicas" in refusal("replicas", "many")


@needs_haproxy
def test_a_busy_port_ends_the_fleet_and_is_reported() -> None:
    port = free_port(4)
    with socket.create_server(("127.0.0.1", port)):
        assert f"HAProxy on 127.0.0.1:{port} ended with status 1" in refusal("replicas", "2", port=port)


@pytest.mark.parametrize("port", [0, 65533])
def test_replicas_need_ports_above_the_services_own(port: int) -> None:
    with pytest.raises(SettingsError, match=f"ESRGAN_PORT={port} "):
        replica_ports(port, 2)


@pytest.mark.parametrize(
    ("environment", "number", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "4,GPU-5"}, 1, {"CUDA_VISIBLE_DEVICES": "GPU-5"}),
        ({"CUDA_VISIBLE_DEVICES": "4,5"}, 2, {"CUDA_VISIBLE_DEVICES": "4"}),
        ({"CUDA_VISIBLE_DEVICES": "4,5", "ESRGAN_DEVICE": "cpu", "ESRGAN_THREADS": "3"}, 1, {"ESRGAN_THREADS": "3"}),
        ({"CUDA_VISIBLE_DEVICES": "", "ESRGAN_LEAVE_S": "7"}, 0, {"ESRGAN_LEAVE_S": "7", "ESRGAN_HOST": "127.0.0.1"}),
        ({"CUDA_VISIBLE_DEVICES": "", "ESRGAN_HOST": "0.0.0.0"}, 0, {"ESRGAN_HOST": "127.0.0.1"}),
    ],
)
def test_each_replica_has_its_gpu_or_its_share_of_the_processor(
    environment: Mapping[str, str], number: int, expected: Mapping[str, str]
) -> None:
    own = replica_environment(environment, number, 2, 8001)
    assert expected.items() <= own.items()
    assert own["ESRGAN_PORT"] == "8001"
    assert own["ESRGAN_PUBLISHED"] == f"{environment.get('ESRGAN_HOST', '127.0.0.1')}:8000"
    assert ("ESRGAN_THREADS" in own) == (environment.get("CUDA_VISIBLE_DEVICES") == "" or "ESRGAN_DEVICE" in own)
