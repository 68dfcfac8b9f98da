"""python -m app replicas N: replicas of the service behind HAProxy on one machine, without a container engine.

A replica that dies is restarted. SIGHUP replaces the replicas one after the other, SIGTERM stops all of them after
their last answers. The replicas listen on the ports above the service's own, HAProxy's metrics are on the next one.
"""

import asyncio
import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from app.settings import PREFIX, Settings, SettingsError
from app.waiting import is_set_within
from model.machine import usable_cores, usable_cpus

HAPROXY = Path(__file__).parent.parent / "docker" / "haproxy"
"""Folder of HAProxy's configuration, which containers use, too."""

LEAVE_S = 2
"""Default of ESRGAN_LEAVE_S for replicas: four health checks of HAProxy."""

MIN_UPTIME_S = 60.0
"""Minimum run time of a process that is restarted at once; after shorter runs, the pause grows each time."""

MAX_PAUSE_S = 30.0

READY_POLL_S = 0.2

GPUS = Path("/proc/driver/nvidia/gpus")
"""Has a folder for each NVIDIA GPU."""

PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


class Supervised:
    """A process that is restarted whenever it ends, until it is stopped.

    Args:
        fatal_status: exit status of the first start after which a restart would not help.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], *, fatal_status: int) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._fatal_status = fatal_status
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._signalled = False

    async def run(self) -> None:
        """Run until stopped.

        Raises:
            SettingsError: the process cannot run with these settings; it has said why.
        """
        loop, pause_s, is_first = asyncio.get_running_loop(), 0.0, True
        while not self._stopping.is_set():
            began_s, self._signalled = loop.time(), False
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                start_new_session=True,  # a terminal's Ctrl-C reaches this process only
                preexec_fn=_end_with_parent,
            )
            if self._stopping.is_set():  # while it was being started
                self._process.terminate()
            status = await self._process.wait()
            if self._signalled:
                is_first = False
                continue
            if status == self._fatal_status and is_first:
                raise SettingsError(f"{self.name} ended with status {status}; its last line says why")
            is_first = False
            pause_s = 0.0 if loop.time() - began_s > MIN_UPTIME_S else min(MAX_PAUSE_S, 2 * pause_s + 0.5)
            log.error("%s ended with status %d; starting it again in %.1f s", self.name, status, pause_s)
            await is_set_within(self._stopping, pause_s)

    def end(self, number: signal.Signals) -> None:
        """Send a signal that ends the process; it is restarted unless it is being stopped."""
        self._signalled = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self, number: signal.Signals) -> None:
        """End the process with a signal, for good."""
        self._stopping.set()
        self.end(number)

    async def ended(self) -> None:
        """Wait until the current process has ended."""
        if self._process is not None:
            await self._process.wait()


class Fleet:
    """Replicas of the service and HAProxy in front of them.

    Args:
        folder: where HAProxy's list of servers is written.

    Raises:
        SettingsError: HAProxy is not installed, or there are too few ports for the replicas.
    """

    def __init__(self, settings: Settings, count: int, folder: Path) -> None:
        self._ports = replica_ports(settings.port, count)
        self._replicas = [
            Supervised(
                f"replica {number} on 127.0.0.1:{port}",
                [sys.executable, "-m", "app"],
                replica_environment(os.environ, number, count, port),
                fatal_status=2,
            )
            for number, port in enumerate(self._ports)
        ]
        servers = folder / "replicas.cfg"
        lines = [f"    server replica{number} 127.0.0.1:{port}\n" for number, port in enumerate(self._ports)]
        servers.write_text("".join(["backend esrgan\n", *lines]), encoding="ascii")
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        front, self._stats = f"{host}:{settings.port}", f"127.0.0.1:{self._ports[-1] + 1}"
        command = [find_haproxy(), "-db", "-f", str(HAPROXY / "haproxy.cfg"), "-f", str(servers)]
        environment = {**os.environ, "FRONT": front, "STATS": self._stats}
        self._balancer = Supervised(f"HAProxy on {front}", command, environment, fatal_status=1)
        self._ending: asyncio.Task[None] | None = None
        self._rolling: asyncio.Task[None] | None = None
        log.info("HAProxy listens on %s; metrics: %s and %s", front, _listed(self._ports), self._stats)

    async def run(self) -> None:
        """Run until a signal stops it.

        Raises:
            SettingsError: a process cannot run with these settings.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle_end)
        loop.add_signal_handler(signal.SIGHUP, self._handle_hangup)
        running = [asyncio.create_task(it.run()) for it in (*self._replicas, self._balancer)]
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        failures = [failure for it in done if (failure := it.exception()) is not None]
        if failures:
            await self._end()
        await asyncio.gather(*running, return_exceptions=True)
        if failures:
            raise failures[0]

    def _handle_end(self) -> None:
        if self._ending is None:
            log.info("stopping %d replicas", len(self._replicas))
            self._ending = asyncio.create_task(self._end())
            return
        for it in (*self._replicas, self._balancer):
            it.stop(signal.SIGKILL)

    def _handle_hangup(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._replace_all())

    async def _end(self) -> None:
        """Refuse new requests, answer the accepted ones, and end."""
        if self._rolling is not None:
            self._rolling.cancel()
        self._balancer.stop(signal.SIGUSR1)
        for replica in self._replicas:
            replica.stop(signal.SIGTERM)
        for replica in self._replicas:
            await replica.ended()
        self._balancer.stop(signal.SIGTERM)

    async def _replace_all(self) -> None:
        """Replace one replica after the other, each when the balancer sends requests to the one before."""
        for number, (replica, port) in enumerate(zip(self._replicas, self._ports, strict=True)):
            log.info("replacing %s", replica.name)
            replica.end(signal.SIGTERM)
            await replica.ended()
            while not await asyncio.to_thread(self._serves, number, port):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(READY_POLL_S)
        log.info("all replicas are replaced")

    def _serves(self, number: int, port: int) -> bool:
        """Return True if a replica is ready and HAProxy has noticed; only then another one may leave."""
        up = f'haproxy_server_status{{proxy="esrgan",server="replica{number}",state="UP"}} 1'
        return _read(f"127.0.0.1:{port}/readyz") is not None and up in (_read(f"{self._stats}/metrics") or "")


def serve_replicas(settings: Settings, count: int) -> None:
    """Serve with several replicas until a signal stops them.

    Raises:
        SettingsError: HAProxy is not installed, or a process cannot run with these settings.
    """
    with tempfile.TemporaryDirectory(prefix="esrgan-") as folder:
        asyncio.run(Fleet(settings, count, Path(folder)).run())


def find_haproxy() -> str:
    """Return the path of HAProxy.

    Raises:
        SettingsError: it is not installed.
    """
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SettingsError(
            "several replicas need HAProxy, which is not installed (Debian: apt-get install haproxy); or use "
            "containers: docs/fleet.md"
        )
    return found


def replica_ports(port: int, count: int) -> Sequence[int]:
    """Return the ports of the replicas, those above the service's own; the one after them is for HAProxy's metrics.

    Raises:
        SettingsError: there are not enough.
    """
    if not 1 <= port <= 65535 - count - 1:
        raise SettingsError(f"ESRGAN_PORT={port} leaves no ports above it for {count} replicas; choose 1 to 60000")
    return range(port + 1, port + 1 + count)


def replica_environment(environment: Mapping[str, str], number: int, count: int, port: int) -> dict[str, str]:
    """Return the environment of a replica: its port, its GPU, or its share of the processor where there is none.

    Args:
        environment: of the fleet; what it sets has precedence.
    """
    balancer = f"{environment.get(f'{PREFIX}HOST') or '127.0.0.1'}:{environment.get(f'{PREFIX}PORT') or 8000}"
    own = {f"{PREFIX}LEAVE_S": str(LEAVE_S), **environment}
    own |= {f"{PREFIX}HOST": "127.0.0.1", f"{PREFIX}PORT": str(port)}
    own[f"{PREFIX}PUBLISHED"] = environment.get(f"{PREFIX}PUBLISHED") or balancer
    if environment.get(f"{PREFIX}DEVICE", "auto") in ("auto", "cuda") and (gpus := _gpus(environment)):
        own["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    elif not environment.get(f"{PREFIX}THREADS"):
        own[f"{PREFIX}THREADS"] = str(max(1, usable_cores(usable_cpus()) // count))
    return own


def _gpus(environment: Mapping[str, str]) -> Sequence[str]:
    """Return the names of the GPUs that may be used: CUDA_VISIBLE_DEVICES, or the numbers of all."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name and name != "-1"]
    return [str(number) for number in range(len(list(GPUS.glob("*"))))]


def _read(address: str) -> str | None:
    """Return the body that an address answers; None if the request fails."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores a proxy set in the environment
    try:
        with opener.open(f"http://{address}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(f"127.0.0.1:{port}" for port in ports)


def _end_with_parent() -> None:
    """Let Linux end this process when its parent is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
