"""python -m benchmarks.replicas: replicas behind HAProxy, against one of them.

Runs `python -m app replicas N` and a second HAProxy with round robin in front of the same replicas. Everything that is
compared is measured in turns, since the machine's speed changes.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy
import torch

from app.replicas import HAPROXY, find_haproxy
from benchmarks.rig.networks import add_network_options, write_models
from benchmarks.rig.report import Report, add_record_option, print_progress
from benchmarks.rig.traffic import Upload, mixed_sides, send, send_all, uploads_of

SMALL_PX, LARGE_PX = 64, 1024
"""Sides of the picture whose latency is measured, and of the one that keeps a replica busy."""

NO_LIMITS = httpx.Limits(max_connections=None)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Running replicas, and the addresses of their balancers."""

    process: "subprocess.Popen[bytes]"
    balanced: str
    in_rotation: str
    replicas: Sequence[str]

    def pids(self) -> Sequence[int]:
        """Return the process ids of the replicas."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if b"haproxy" not in _command_of(child)]


def _command_of(pid: str) -> bytes:
    """Return the command of a process; "haproxy" for one that has just ended, so that it is left out."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"haproxy"


def main() -> None:
    """Measure throughput, overhead, routing and losses."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each replica")
    parser.add_argument("--pictures", type=int, default=48, help="pictures of mixed sizes in a pass")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each")
    parser.add_argument("--small", type=int, default=100, help="small pictures for each latency")
    parser.add_argument("--port", type=int, default=18000)
    add_record_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Report("replicas", options) as report:
        network = write_models(options, Path(folder))
        with running(Path(folder), options) as fleet:
            text = f"{network.name}, {options.replicas} replicas of {options.threads} threads, {os.cpu_count()} CPUs"
            report.setting(f"{text}, load {os.getloadavg()[0]:.1f}", torch.device("cpu"))
            asyncio.run(_measure(fleet, report, options))


@contextmanager
def running(models: Path, options: argparse.Namespace) -> Iterator[Fleet]:
    """Run the replicas and both balancers."""
    port, count = options.port, options.replicas
    settings = {"MODELS": models, "PORT": port, "THREADS": options.threads, "JOBS": "false", "LOG_LEVEL": "WARNING"}
    own = {f"ESRGAN_{name}": str(value) for name, value in settings.items()}
    replicas = [f"127.0.0.1:{port + 1 + number}" for number in range(count)]
    rotation = models / "rotation"
    rotation.mkdir()
    for file in HAPROXY.iterdir():
        text = file.read_text(encoding="utf-8").replace("balance leastconn", "balance roundrobin")
        (rotation / file.name).write_text(text, encoding="utf-8")
    servers = "".join(f"    server replica{number} {address}\n" for number, address in enumerate(replicas))
    (rotation / "replicas.cfg").write_text(f"backend esrgan\n{servers}", encoding="ascii")
    front = f"127.0.0.1:{port + count + 2}"
    command = [find_haproxy(), "-db", "-f", "haproxy.cfg", "-f", "replicas.cfg"]
    environment = {**os.environ, "FRONT": front, "STATS": f"127.0.0.1:{port + count + 3}"}
    fleet = [sys.executable, "-m", "app", "replicas", str(count)]
    with (
        subprocess.Popen(fleet, env=os.environ | own) as process,
        subprocess.Popen(command, cwd=rotation, env=environment) as other,
    ):
        addresses = {"balanced": f"http://127.0.0.1:{port}", "in_rotation": f"http://{front}"}
        try:
            yield Fleet(process=process, replicas=[f"http://{address}" for address in replicas], **addresses)
        finally:
            process.terminate()
            other.terminate()


async def _measure(fleet: Fleet, report: Report, options: argparse.Namespace) -> None:
    async with httpx.AsyncClient(timeout=None, limits=NO_LIMITS, trust_env=False) as probe:
        await _all_ready(probe, fleet)
    uploads = uploads_of(mixed_sides(options.pictures))
    await _throughput(fleet, report, uploads, options.rounds)
    small = uploads_of([SMALL_PX])[0]
    await _overhead(fleet, report, small, options.small)
    await _routing(fleet, report, small, options.small)
    await _losses(fleet, report, small)


async def _all_ready(client: httpx.AsyncClient, fleet: Fleet) -> None:
    for address in (*fleet.replicas, fleet.balanced, fleet.in_rotation):
        while not await _is_ready(client, address):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)


async def _is_ready(client: httpx.AsyncClient, address: str) -> bool:
    try:
        return (await client.get(f"{address}/readyz")).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=NO_LIMITS, trust_env=False) as client:
        yield client


async def _throughput(fleet: Fleet, report: Report, uploads: Sequence[Upload], rounds: int) -> None:
    """Send the same pictures to all replicas and to one, each with eight clients for each replica."""
    count = len(fleet.replicas)
    rates: dict[str, list[float]] = {"one replica": [], "all replicas": []}
    for address in fleet.replicas:
        async with _client(address) as client:
            await send_all(client, uploads, 8)  # learns how long pieces take
    for number in range(rounds):
        for name, address, clients in (
            ("one replica", fleet.replicas[0], 8),
            ("all replicas", fleet.balanced, 8 * count),
        ):
            async with _client(address) as client:
                rates[name].append((await send_all(client, uploads, clients)).px_per_s)
        print_progress(
            f"round {number + 1}: " + ", ".join(f"{name} {each[-1] / 1e3:.1f}" for name, each in rates.items())
        )
    one, all_of_them = (statistics.median(each) for each in rates.values())
    report.table(
        ("throughput", "LR kpx/s", "of one"),
        [
            [name, f"{statistics.median(each) / 1e3:.1f}", f"{statistics.median(each) / one:.2f} x"]
            for name, each in rates.items()
        ],
    )
    report.bar(f"throughput of {count} replicas over {count} x one", all_of_them / (count * one), at_least=0.9)


async def _overhead(fleet: Fleet, report: Report, small: Upload, count: int) -> None:
    """Send a small picture to a replica and through the balancer, in turns."""
    direct, balanced = [], []
    async with _client(fleet.replicas[0]) as one, _client(fleet.balanced) as through:
        for _ in range(count):
            direct.append((await send(one, small)).seconds)
            balanced.append((await send(through, small)).seconds)
    rows = [[name, *_ms(each)] for name, each in (("replica", direct), ("through HAProxy", balanced))]
    report.table((f"{SMALL_PX} px", "p50, ms", "p95, ms"), rows)
    added_ms = 1e3 * (statistics.median(balanced) - statistics.median(direct))
    report.bar("added by the balancer, p50, ms", added_ms, at_most=10)


async def _routing(fleet: Fleet, report: Report, small: Upload, count: int) -> None:
    """Send small pictures, one after the other, while a replica is busy with large ones; by each balancer in turns."""
    (large,) = uploads_of([LARGE_PX])
    took: dict[str, list[float]] = {"round robin": [], "least connections": []}
    for _ in range(2):
        for name, address in zip(took, (fleet.in_rotation, fleet.balanced), strict=True):
            async with _client(address) as client:
                busy = asyncio.create_task(_again_and_again(client, large))
                await asyncio.sleep(1)  # until it runs
                took[name] += [(await send(client, small)).seconds for _ in range(count // 2)]
                busy.cancel()
                await asyncio.gather(busy, return_exceptions=True)
    rows = [[name, *_ms(each)] for name, each in took.items()]
    report.table((f"{SMALL_PX} px during {LARGE_PX} px on one replica", "p50, ms", "p95, ms"), rows)
    rotation, least = (float(numpy.percentile(each, 95)) for each in took.values())
    report.bar("p95 of round robin over least connections", rotation / least, at_least=2)


async def _again_and_again(client: httpx.AsyncClient, upload: Upload) -> None:
    while True:
        await send(client, upload)


async def _losses(fleet: Fleet, report: Report, small: Upload) -> None:
    """Count requests that fail while a replica is killed, and while all are replaced."""
    rows = []
    for name in ("a replica is killed (-9)", "all replicas are replaced"):
        before = set(fleet.pids())
        over, lost, answered = asyncio.Event(), list[str](), list[float]()
        async with _client(fleet.balanced) as client:
            calls = [asyncio.create_task(_call(client, small, over, answered, lost)) for _ in range(8)]
            await asyncio.sleep(2)
            if name.startswith("a replica"):
                os.kill(min(before), signal.SIGKILL)
                left = len(before) - 1
            else:
                fleet.process.send_signal(signal.SIGHUP)
                left = 0
            while len(before & set(fleet.pids())) > left or len(fleet.pids()) < len(before):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.1)
            await _all_ready(client, fleet)
            over.set()
            await asyncio.gather(*calls)
        rows.append([name, str(len(answered)), str(len(lost))])
        report.bar(f"requests lost while {name}", len(lost), at_most=0)
        for why in sorted(set(lost)):
            print_progress(f"lost: {why}")
    report.table(("meanwhile", "answered", "lost"), rows)


async def _call(
    client: httpx.AsyncClient, upload: Upload, over: asyncio.Event, answered: list[float], lost: list[str]
) -> None:
    while not over.is_set():
        began_s = time.perf_counter()
        try:
            answered.append((await send(client, upload)).seconds)
        except (httpx.TransportError, RuntimeError) as error:
            lost.append(f"{error!r} after {time.perf_counter() - began_s:.1f} s")


def _ms(seconds: Sequence[float]) -> list[str]:
    return [f"{1e3 * value:.1f}" for value in numpy.percentile(seconds, [50, 95])]


if __name__ == "__main__":
    main()
