"""Start and stop servers to measure, as processes on free ports of this machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import httpx

START_S = 300
"""Timeout from start to ready."""

STOP_S = 20
"""Timeout from the signal to the end."""


@contextmanager
def our_service(models: Path, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Run the service with the counters of its scheduler; yields its address. `service_process` has the arguments."""
    with service_process(models, module="benchmarks.rig.served", environment=settings) as (port, _):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def service_process(
    models: Path,
    *,
    module: str = "app",
    environment: Mapping[str, str] = MappingProxyType({}),
    log: Path | None = None,
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Run the service as `python -m app` does; yields its port and its process, which may end on its own.

    Args:
        module: another one that starts the service.
        environment: settings by the names of their variables; others come from the environment of this process.
        log: file that receives what it prints.
    """
    port = _free_port()
    settings = {"ESRGAN_MODELS": str(models), "ESRGAN_HOST": "127.0.0.1", "ESRGAN_PORT": str(port)}
    with _running(module, [], port, ready="/readyz", environment=settings | dict(environment), log=log) as process:
        yield port, process


@contextmanager
def litserve_service(weights: Path, runtime: str) -> Iterator[str]:
    """Run LitServe around the same network; yields its address."""
    port = _free_port()
    arguments = ["--weights", str(weights), "--port", str(port), "--runtime", runtime]
    with _running("benchmarks.rig.litserve_server", arguments, port, ready="/health", environment={}):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(
    module: str,
    arguments: Sequence[str],
    port: int,
    *,
    ready: str,
    environment: Mapping[str, str],
    log: Path | None = None,
) -> "Iterator[subprocess.Popen[bytes]]":
    with log.open("w+") if log else tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=os.environ | dict(environment),
            stdout=said,
            stderr=said,
            start_new_session=True,  # LitServe starts workers: all of them are ended together
        )
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}{ready}")
            yield process
        except BaseException:
            said.seek(0)
            print(f"{module} said:\n{said.read()[-4000:]}", file=sys.stderr)
            raise
        finally:
            _end(process)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it was ready")
        with suppress(httpx.TransportError):  # it does not listen yet
            if httpx.get(address, timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{address} was not ready within {START_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            print(f"process {process.pid} did not stop within {STOP_S} s and is killed", file=sys.stderr)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also what it left behind
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
