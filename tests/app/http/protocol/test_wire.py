"""Bytes on the wire: answers to slow, leaving and still sending callers, and the end of connections.

The application is a small one, so that only the server is tested.
"""

import asyncio
import errno
import logging
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from fastapi import Depends, FastAPI, Response

from app import server
from app.access.keys import Right, new_key
from app.http.auth import Authorizer
from app.http.protocol import connection, wire
from app.lifecycle import Lifecycle, Phase
from app.record import RequestRecord
from app.settings import Settings
from tests.app.http.protocol.plain_app import WHOLE, plain_app
from tests.app.in_process import without_models
from tests.app.live import Caller, Live, calling, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "POLL_S", 0.05)


@pytest.fixture
def settings() -> Settings:
    return Settings(max_connections=12, send_idle_s=60, head_s=600, drain_s=600)


@pytest.fixture
async def life(settings: Settings) -> Lifecycle:
    return without_models(settings)


@pytest.fixture
def records() -> list[RequestRecord]:
    """Records of the requests that have ended."""
    return []


@pytest.fixture
def app(life: Lifecycle, records: list[RequestRecord]) -> FastAPI:
    return plain_app(life, records)


@pytest.fixture
async def live(life: Lifecycle, app: FastAPI, records: list[RequestRecord]) -> AsyncIterator[Live]:
    async with serving(life, app, [records.append]) as it:
        yield it


def connections(live: Live) -> list[connection.Connection]:
    return list(cast("set[connection.Connection]", live.server.server_state.connections))


@asynccontextmanager
async def sleeping(live: Live) -> AsyncIterator[Caller]:
    """Connect a caller with a small receive buffer."""
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        it.setblocking(False)
        await asyncio.get_running_loop().sock_connect(it, ("127.0.0.1", live.port))
        reader, writer = await asyncio.open_connection(sock=it, limit=4096)
        yield Caller(reader, writer)
        writer.close()


@pytest.fixture
async def sleeper(live: Live) -> AsyncIterator[Caller]:
    async with sleeping(live) as it:
        yield it


async def answer_waits(live: Live, size: int = len(WHOLE)) -> None:
    """Wait until an answer of this size is being sent to a caller that does not read it."""
    await until(lambda: any(it.transport.written_bytes > size for it in connections(live)))
    assert any(it.transport.unsent_bytes for it in connections(live))


async def body(caller: Caller) -> bytes:
    """Read the whole body of an answer with a length, without delay."""
    caller.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    head = await caller.reader.readuntil(b"\r\n\r\n")
    (length,) = re.findall(rb"content-length: (\d+)", head.lower())
    return await caller.reader.readexactly(int(length))


async def test_small_writes_leave_at_once_on_every_accepted_connection(live: Live) -> None:
    await live.connect()
    await until(lambda: len(connections(live)) == 1)
    (accepted,) = (it.transport.get_extra_info("socket") for it in connections(live))
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_connections_are_limited_even_when_all_arrive_at_once(
    life: Lifecycle, app: FastAPI, records: list[RequestRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ACCEPTS_PER_TURN", 2)
    most = 0
    made = connection.Connection.connection_made

    def counted(self: connection.Connection, transport: asyncio.Transport) -> None:
        nonlocal most
        made(self, transport)
        most = max(most, len(self.connections))

    monkeypatch.setattr(connection.Connection, "connection_made", counted)
    async with serving(life, app, [records.append]) as live:
        callers = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(80)]  # at once
        async with calling(live) as caller:
            assert (await caller.get("/whole?size=1")).status_code == 200
        assert len(connections(live)) <= life.settings.max_connections
        assert most <= life.settings.max_connections + 8
        for one in callers:
            one.close()


async def test_a_connection_whose_answer_is_being_sent_is_not_closed_for_others(live: Live, sleeper: Caller) -> None:
    await sleeper.send("GET /whole HTTP/1.1\nHost: a\n\n")
    await until(lambda: live.life.accepted == 1)
    others = [await live.connect() for _ in range(20)]
    assert await others[0].closed()
    assert await body(sleeper) == WHOLE


async def test_running_out_of_files_is_logged_once_and_recovers(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncio.selector_events.constants.ACCEPT_RETRY_DELAY", 0.01)
    tries = 0

    def exhausted(self: socket.socket) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", exhausted)
        caller = await live.connect()
        await until(lambda: tries > 5 * server.ACCEPTS_PER_TURN)
    await caller.send("GET /whole?size=1 HTTP/1.1\nHost: a\n\n")
    assert await caller.status() == 200
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "ulimit -n" in told.getMessage()
    assert told.exc_info is None


def test_the_number_of_connections_is_limited_by_the_limit_of_open_files(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = {"soft": 64, "hard": 64}
    monkeypatch.setattr("resource.getrlimit", lambda kind: (limits["soft"], limits["hard"]))
    monkeypatch.setattr("resource.setrlimit", lambda kind, both: limits.update(soft=both[0]))
    assert server.allow_files(1000) == 32
    assert "ulimit -n" in caplog.text
    caplog.clear()
    limits["hard"] = 2000
    assert server.allow_files(1000) == 1000
    assert limits["soft"] == 1000 + server.SPARE_FILES
    assert not caplog.records


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("name", "outcome", "tracebacks"),
    [("deadline", "deadline-passed", 0), ("stop", "unavailable", 0), ("fault", "broken", 1)],
)
async def test_an_aborted_answer_never_ends_like_a_complete_one(
    live: Live,
    records: list[RequestRecord],
    caplog: pytest.LogCaptureFixture,
    version: str,
    name: str,
    outcome: str,
    tracebacks: int,
) -> None:
    caller = await live.connect()
    await caller.send(f"GET /broken/{name} HTTP/{version}\nHost: a\n\n")
    assert (await caller.rest())[1]
    (record,) = records
    assert (record.status, record.outcome) == (200, outcome)
    assert sum(record.exc_info is not None for record in caplog.records) == tracebacks
    assert len(caplog.records) == 1


async def test_a_deadline_in_mid_stream_is_an_outcome_of_its_own(
    live: Live, records: list[RequestRecord], caplog: pytest.LogCaptureFixture
) -> None:
    caller = await live.connect()
    await caller.send("GET /broken/never HTTP/1.0\nHost: a\nPrefer: wait=0\n\n")
    assert (await caller.rest())[1]
    assert records[0].outcome == "deadline-passed"
    assert all(record.exc_info is None for record in caplog.records)


def refusal(address: str, head: str, size: int) -> str:
    """Send a whole body, even if the answer arrives earlier; returns the answer."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        caller.sendall(f"{head}Content-Length: {size}\n\n".replace("\n", "\r\n").encode())
        for _ in range(size // 2**20):
            caller.sendall(bytes(2**20))
        answer = b""
        while not answer.endswith(b"}"):
            piece = caller.recv(65536)
            assert piece
            answer += piece
        return answer.decode()


@pytest.mark.parametrize(
    "head",
    [
        "POST /refused HTTP/1.1\nHost: a\n",
        "POST /refused HTTP/1.1\nHost: a\nConnection: close\n",
        "POST /refused HTTP/1.0\nHost: a\n",
        "POST /refused HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n",
        "POST /refused HTTP/1.1\nHost: a\nNo header\n",
    ],
    ids=["plain", "close", "http/1.0", "two lengths", "rubbish"],
)
async def test_an_early_refusal_reaches_callers_that_are_still_sending(live: Live, head: str) -> None:
    answer = await asyncio.to_thread(refusal, live.address, head, 40 * 2**20)
    assert answer.startswith(("HTTP/1.1 413 ", "HTTP/1.1 400 "))
    await until(lambda: not connections(live))


@pytest.mark.parametrize(
    "rest", [b"zzz\r\n", b"0\r\n\r\n", b"0\r\n\r\nGET / HT"], ids=["garbage", "end", "half a head"]
)
async def test_an_early_answer_is_the_last_one_of_its_connection(
    live: Live, records: list[RequestRecord], rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("LINGER_S", "LINGER_IDLE_S"):
        monkeypatch.setattr(wire, limit, 1000)  # the caller does not have to wait for these
    caller = await live.connect()
    await caller.send("POST /refused HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nhello\n")
    await until(lambda: len(records) == 1)
    await caller.send("", rest)
    answers, reset = await caller.rest()
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in answers.lower()
    assert not reset
    caller.hang_up()
    await until(lambda: not connections(live))
    assert len(records) == 1


async def test_an_early_refusal_reaches_urllib(live: Live) -> None:
    request = urllib.request.Request(f"{live.address}/refused", data=bytes(40_000_000))
    with pytest.raises(urllib.error.HTTPError) as refused:
        await asyncio.to_thread(urllib.request.urlopen, request, timeout=20)
    with refused.value as answer:
        assert answer.status == 413


@pytest.mark.parametrize(("name", "most"), [("LINGER_S", 0.2), ("LINGER_BYTES", 100_000)])
@pytest.mark.parametrize("close", ["", "Connection: close\n"])
async def test_a_caller_that_never_stops_sending_is_cut(
    live: Live, monkeypatch: pytest.MonkeyPatch, name: str, most: float, close: str
) -> None:
    monkeypatch.setattr(wire, name, most)
    caller = await live.connect()
    await caller.send(f"POST /refused HTTP/1.1\nHost: a\n{close}Content-Length: 1000000000\n\n")
    assert await caller.status() == 413
    with pytest.raises(ConnectionError):  # noqa: PT012  # no single write is the one that fails
        async with asyncio.timeout(60):
            while True:
                await caller.send("", bytes(10_000))
                await asyncio.sleep(0.005)


async def test_a_caller_that_leaves_with_bytes_behind_its_request_is_noticed(live: Live) -> None:
    caller = await live.connect()
    await caller.send(
        "POST /wait HTTP/1.1\nHost: a\nContent-Length: 3\n\n", b"abcGET /path HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    await until(lambda: live.life.accepted == 1)
    caller.hang_up()
    await until(lambda: live.life.accepted == 0)


async def test_a_request_counts_until_its_caller_has_the_answer(
    live: Live, records: list[RequestRecord], sleeper: Caller
) -> None:
    await sleeper.send("GET /whole HTTP/1.1\nHost: a\n\n")
    await answer_waits(live)
    assert live.life.accepted == 1
    assert not records
    assert await body(sleeper) == WHOLE
    await until(lambda: live.life.accepted == 0)
    assert records[0].outcome == "done"


async def test_a_caller_that_leaves_while_its_answer_is_sent_is_recorded_as_left(
    live: Live, records: list[RequestRecord], sleeper: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    await sleeper.send("GET /whole HTTP/1.1\nHost: a\n\n")
    await answer_waits(live)
    sleeper.hang_up()
    await until(lambda: bool(records))
    assert (records[0].status, records[0].outcome) == (499, "left")
    assert live.life.accepted == 0
    assert not caplog.records


def counted_looks(live: Live, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Collect the results of the server's checks for pending answers."""
    looks: list[bool] = []
    delivers = live.server._is_delivering

    def seen() -> bool:
        looks.append(delivers())
        return looks[-1]

    monkeypatch.setattr(live.server, "_is_delivering", seen)
    return looks


@pytest.mark.parametrize("size", [len(WHOLE), 300_000], ids=["in the process", "in the kernel"])
async def test_a_signal_ends_the_service_only_when_all_answers_have_been_delivered(
    live: Live, sleeper: Caller, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sleeper.send(f"GET /whole?size={size} HTTP/1.1\nHost: a\n\n")
    await answer_waits(live, size)
    live.signal()
    looks = counted_looks(live, monkeypatch)
    await until(lambda: live.life.phase is Phase.DRAINING)
    for _ in range(50):
        await asyncio.sleep(0)
    await until(lambda: len(looks) > 3 or live.life.accepted > 0)
    assert not live.server.should_exit
    assert await body(sleeper) == WHOLE[:size]
    async with asyncio.timeout(60):
        await live.running


async def test_answers_not_read_within_the_drain_deadline_are_aborted(
    app: FastAPI, life: Lifecycle, records: list[RequestRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FLUSH_S", 0)
    life.settings = life.settings.model_copy(update={"drain_s": 0, "send_idle_s": 600})
    async with serving(life, app, [records.append]) as live, sleeping(live) as sleeper:
        await sleeper.send("GET /whole HTTP/1.1\nHost: a\n\n")
        await answer_waits(live)
        live.signal()
        async with asyncio.timeout(60):
            await live.running
        assert (await sleeper.rest())[1]
    assert records[0].outcome == "unavailable"


async def test_a_slow_but_steady_reader_is_not_disconnected(
    live: Live, sleeper: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(connection, "POLL_S", 0.005)
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now_s))
    await sleeper.send("GET /whole HTTP/1.1\nHost: a\n\n")
    for _ in range(30):
        await sleeper.reader.readexactly(30_000)
        await asyncio.sleep(0.01)
        now_s += live.life.settings.send_idle_s / 20
    (kept,) = connections(live)
    assert not kept.transport.is_closing()
    assert kept.transport.taken_bytes < len(WHOLE) / 4  # the kernel accepts no more
    sleeper.hang_up()


@pytest.mark.parametrize("idle_s", [0.5, 60.0], ids=["takes nothing", "takes too little"])
def test_a_reader_that_takes_nothing_or_too_little_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, idle_s: float
) -> None:
    sending = connection.SendProgress(0)
    began_s = sending._began_s
    monkeypatch.setattr("app.http.protocol.connection.time.monotonic", lambda: began_s + idle_s * 3)
    sending.update(1)  # recent progress, but hardly any
    assert sending.is_stuck(idle_s)
    sending.update(int(idle_s * 2 * connection.MIN_SEND_BYTES_PER_S) + 1000)
    assert not sending.is_stuck(idle_s)
    monkeypatch.setattr("app.http.protocol.connection.time.monotonic", lambda: began_s + idle_s * 5)
    assert sending.is_stuck(idle_s)


async def test_a_target_with_scheme_and_host_is_taken_as_a_path(live: Live) -> None:
    for target, expected in [
        ("http://b:1/path?x=1", "b:1 /path x=1"),
        ("HTTP://b/pa%74h", "b /path "),
        ("/path", "a /path "),
    ]:
        caller = await live.connect()
        await caller.send(f"GET {target} HTTP/1.1\nHost: a\nConnection: close\n\n")
        answer, reset = await caller.rest()
        assert answer.endswith(f'"{expected}"'.encode()), target
        assert not reset
    caller = await live.connect()
    await caller.send("GET http://b HTTP/1.1\nHost: a\n\n")
    assert await caller.status() == 404


async def test_after_a_request_with_two_lengths_nothing_more_is_served(live: Live) -> None:
    caller = await live.connect()
    two = "POST /refused HTTP/1.1\nHost: a\nContent-Length: 6\nTransfer-Encoding: chunked\n\n0\n\n"
    await caller.send(two + "GET /path HTTP/1.1\nHost: a\n\n")
    answer, _ = await caller.rest()
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"400"]


async def test_garbage_after_a_request_does_not_change_its_record(live: Live, records: list[RequestRecord]) -> None:
    caller = await live.connect()
    await caller.send("GET /path HTTP/1.1\nHost: a\n\nrubbish\n\n")
    answer, _ = await caller.rest()
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
    assert sorted((record.status, record.outcome) for record in records) == [(200, "done"), (400, "bad-request")]


async def test_a_key_counts_its_request_until_the_answer_has_been_read(
    life: Lifecycle, app: FastAPI, tmp_path: Path
) -> None:
    token, line = new_key("shop", ["concurrent=1"])
    (tmp_path / "keys").write_text(line + "\n")
    access = Authorizer(life.settings.model_copy(update={"keys": tmp_path / "keys"}))

    @app.get("/mine", dependencies=[Depends(access.require(Right.UPSCALE))])
    async def mine(size: int = len(WHOLE)) -> Response:
        return Response(WHOLE[:size])

    async with serving(life, app) as live, calling(live) as caller:
        first = await live.connect()
        await first.send(f"GET /mine HTTP/1.1\nHost: a\nX-Api-Key: {token}\n\n")
        await answer_waits(live)
        key = {"X-Api-Key": token}
        assert (await caller.get("/mine?size=1", headers=key)).status_code == 429
        assert await body(first) == WHOLE
        for _ in range(20):
            assert (await caller.get("/mine?size=1", headers=key)).status_code == 200
