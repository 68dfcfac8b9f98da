"""The service in processes of their own."""

import os
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]

START_S = 300
"""Timeout for the start of a process: importing PyTorch is slow on a busy machine."""

_chance = random.SystemRandom()  # no two processes have the same seed


def free_port(count: int = 1) -> int:
    """Return a free port, the first of `count` consecutive ones, for a server that listens some time later.

    Until then nothing else takes it: it is below the ports that Linux gives to connections and for port 0.
    """
    while True:
        first = _chance.randrange(10_000, 30_000)
        with suppress(OSError):
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
            return first


def variables(**settings: object) -> dict[str, str]:
    """Return the environment of this process with settings, given by their names, in variables."""
    return os.environ | {f"ESRGAN_{name.upper()}": str(value) for name, value in settings.items()}


def start(*arguments: str, **settings: object) -> subprocess.Popen[str]:
    """Start `python -m app` with arguments and settings."""
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env=variables(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(*arguments: str, **settings: object) -> str:
    """Start a command that must fail with exit status 2; returns its last line."""
    process = start(*arguments, **settings)
    _, said = process.communicate(timeout=START_S)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def becomes_ready(process: subprocess.Popen[Any], port: int, path: str = "/readyz") -> bool:
    """Wait until a process answers on its port; returns False if it ends before."""
    give_up_s = time.monotonic() + START_S
    with httpx.Client() as client:
        while process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get(f"http://127.0.0.1:{port}{path}").is_success:
                    return True
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
    return False


async def is_ready(client: httpx.AsyncClient, address: str = "") -> bool:
    """Return whether a service, or what is behind a proxy, answers and is ready."""
    try:
        return (await client.get(f"{address}/readyz")).is_success
    except httpx.TransportError:
        return False
