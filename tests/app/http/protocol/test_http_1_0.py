"""Callers and proxies that speak HTTP/1.0, in which a closed connection is the end of an answer without a length."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from app.record import RequestRecord
from tests.app.http.protocol.plain_app import WHOLE, plain_app
from tests.app.in_process import without_models
from tests.app.live import Live, serving

pytestmark = pytest.mark.anyio

IN_ANOTHER_PROCESS = """
import asyncio
from app.lifecycle import Lifecycle
from app.settings import Settings
from tests.app.http.protocol.plain_app import plain_app
from tests.app.live import serving

async def serve():
    life = Lifecycle(Settings(), lambda: None)
    async with serving(life, plain_app(life, []), [print]) as live:
        print(live.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    life = without_models()
    records: list[RequestRecord] = []
    async with serving(life, plain_app(life, records), [records.append]) as it:
        yield it


async def answer(live: Live, path: str) -> tuple[bytes, bytes, bool]:
    """Return the head and the body of an answer in HTTP/1.0, and True if the connection was reset."""
    caller = await live.connect()
    await caller.send(f"GET {path} HTTP/1.0\n\n")
    came, reset = await caller.rest()
    head, _, body = came.partition(b"\r\n\r\n")
    return head.lower(), body, reset


async def test_an_answer_without_a_length_ends_with_an_orderly_close(live: Live) -> None:
    head, body, reset = await answer(live, "/streamed")
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert body == WHOLE
    assert not reset


async def test_an_answer_with_a_length_has_it(live: Live) -> None:
    head, body, reset = await answer(live, "/whole?size=1000")
    assert b"content-length: 1000" in head
    assert (body, reset) == (WHOLE[:1000], False)


@pytest.mark.parametrize("name", ["deadline", "fault", "stop"])
async def test_an_answer_that_breaks_ends_with_a_reset(live: Live, name: str) -> None:
    _, body, reset = await answer(live, f"/broken/{name}")
    assert reset
    assert len(body) < len(WHOLE)


@contextmanager
def another_process() -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Serve in another process; yields it and its port."""
    process = subprocess.Popen([sys.executable, "-c", IN_ANOTHER_PROCESS], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_answer_whose_process_is_killed_ends_with_a_reset() -> None:
    with another_process() as (process, port), socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
        caller.sendall(b"GET /broken/never HTTP/1.0\r\n\r\n")
        came = caller.recv(1000)
        assert came.startswith(b"HTTP/1.1 200")
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            read_all(caller)


def read_all(caller: socket.socket) -> None:
    while caller.recv(65536):
        pass
