"""Connections that are slow, odd, hostile or too many, against the service behind a real port."""

import asyncio
import socket
from contextlib import suppress

import httpx
import pytest

from app.http.protocol import connection, wire
from app.lifecycle import Lifecycle
from app.settings import Settings
from tests.app.conftest import encoded, noise, problem
from tests.app.live import Live, until

pytestmark = pytest.mark.anyio

PICTURE = encoded(noise(5, 5))
HEAD = f"POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: {len(PICTURE)}\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "POLL_S", 0.05)
    monkeypatch.setattr(wire, "LINGER_S", 0.3)


IMPATIENT = pytest.mark.parametrize(
    "settings", [{"head_s": 0.4, "send_idle_s": 0.4, "upload_s": 2.0, "upload_idle_s": 0.4}], indirect=True
)
"""Marks a test of a caller that is too slow; others have time, however busy the machine is."""


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(
        update={
            "max_connections": 12,
            "head_s": 600.0,
            "send_idle_s": 600.0,
            "upload_s": 600.0,
            "upload_idle_s": 600.0,
            "upload_bytes_per_s": 1000,
        }
        | getattr(request, "param", {})
    )


async def answers_still(live: Live) -> None:
    caller = await live.connect()
    await caller.send(HEAD + "\n", PICTURE)
    assert await caller.status() == 200
    await until(lambda: live.life.accepted == 0)
    assert live.life.service.uploads.used_bytes == live.life.service.pictures.used_bytes == 0


@IMPATIENT
async def test_headers_that_drip_are_cut(live: Live) -> None:
    caller = await live.connect()
    await caller.send("POST /v1/upscale HTTP/1.1\nHost:")
    assert await caller.status() == 408
    assert await caller.closed()


@IMPATIENT
async def test_headers_that_drip_on_a_used_connection_are_cut(live: Live) -> None:
    caller = await live.connect()
    await caller.send(HEAD + "\n", PICTURE)
    assert await caller.status() == 200
    await caller.send("GET /livez HT")
    assert await caller.status() == 408


@IMPATIENT
async def test_a_connection_that_says_nothing_is_closed(live: Live) -> None:
    assert await (await live.connect()).closed()


@IMPATIENT
async def test_a_body_that_stalls_is_cut(live: Live) -> None:
    caller = await live.connect()
    await caller.send(HEAD + "\n", PICTURE[:20])
    assert await caller.status() == 408
    assert await caller.closed()
    await answers_still(live)


@IMPATIENT
async def test_a_body_that_drips_is_cut(live: Live) -> None:
    caller = await live.connect()
    await caller.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 9000\n\n")
    cut = asyncio.create_task(caller.status())
    while not cut.done():
        await caller.send("", b"x")
        await asyncio.sleep(0.1)
    assert cut.result() == 408
    await answers_still(live)


@pytest.mark.parametrize("settings", [{"upload_idle_s": 1.0, "upload_bytes_per_s": 1}], indirect=True)
async def test_a_body_whose_pauses_are_short_is_not_cut(live: Live) -> None:
    caller, loop = await live.connect(), asyncio.get_running_loop()
    await caller.send(HEAD + "\n")
    sent_s, longest_s = loop.time(), 0.0
    for start in range(0, len(PICTURE), len(PICTURE) // 10):  # with more time in all than for one pause
        await asyncio.sleep(0.12)
        await caller.send("", PICTURE[start : start + len(PICTURE) // 10])
        sent_s, longest_s = loop.time(), max(longest_s, loop.time() - sent_s)
    assert await caller.status() == 200 or longest_s > 0.8  # the machine paused for so long


async def test_an_endless_body_gets_an_answer_and_is_then_cut(live: Live) -> None:
    caller = await live.connect()
    await caller.send("POST /v1/upscale HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n")
    answer = asyncio.create_task(caller.status())
    chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    with suppress(ConnectionError):
        async with asyncio.timeout(60):
            while True:
                await caller.send("", chunk)
                await asyncio.sleep(0.005)
    assert await answer == 413
    await answers_still(live)


async def test_a_body_of_tiny_chunks_is_parsed_a_little_at_a_time(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    parse = connection.Connection.data_received

    def noted(self: connection.Connection, data: bytes) -> None:
        sizes.append(len(data))
        parse(self, data)

    monkeypatch.setattr(connection.Connection, "data_received", noted)
    caller = await live.connect()
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in PICTURE.ljust(50_000, b"\0")) + b"0\r\n\r\n"
    await caller.send("POST /v1/upscale HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n", body)
    assert await caller.status() == 200
    assert sum(sizes) > len(body)
    assert max(sizes) <= connection.READ_BYTES


async def test_accepted_requests_get_100_continue(live: Live) -> None:
    caller = await live.connect()
    await caller.send(HEAD + "Expect: 100-continue\n\n")
    assert await caller.status() == 100
    await caller.send("", PICTURE)
    assert await caller.status() == 200


async def test_refused_requests_get_no_100_continue(live: Live) -> None:
    caller = await live.connect()
    await caller.send("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 100001\nExpect: 100-continue\n\n")
    assert await caller.status() == 413
    assert await caller.closed()


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", "Accept: text/html", 406),
        ("?model=nope", "", 404),
        ("?scale=2&width=4", "", 422),
        ("?fidelity=0.5", "", 422),
        ("?webhook=https://a.example", "", 422),
    ],
)
@pytest.mark.parametrize("target", ["/v1/upscale", "/v1/jobs", "/v1/upscale with respond-async"])
async def test_no_picture_is_read_for_a_request_whose_head_can_be_refused(
    live: Live, target: str, query: str, headers: str, status: int
) -> None:
    caller, path = await live.connect(), target.split()[0]
    more = "".join(f"{line}\n" for line in (headers, "Prefer: respond-async" * (" " in target)) if line)
    await caller.send(f"POST {path}{query} HTTP/1.1\nHost: a\nContent-Length: 800\nExpect: 100-continue\n{more}\n")
    assert await caller.status() == status


FORGED = [
    ("rubbish\n\n", 400),
    ("POST /v1/upscale HTTP/1.1\n\n", 400),  # no Host
    ("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 5\nContent-Length: 6\n\n", 400),
    ("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: -5\n\n", 400),
    ("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: five\n\n", 400),
    ("POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: 99999999999999999999\n\n", 413),
    (f"POST /v1/upscale HTTP/1.1\nHost: a\nContent-Length: {'9' * 100}\n\n", 400),
    ("POST /v1/upscale HTTP/1.1\nHost: a\nTransfer-Encoding: gzip\n\n", 501),
    ("POST /v1/upscale HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n", 400),
    ("POST /v1/upscale HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nxyz\n", 400),
    (f"GET /livez HTTP/1.1\nHost: a\nX: {'y' * 100_000}\n\n", 431),
    ("GET /livez HTTP/1.1\nHost: a\nX y: z\n\n", 400),
    ("GET /livez HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\n\n", 200),
]


async def test_malformed_heads_get_their_http_status(live: Live) -> None:
    for head, status in FORGED:
        caller = await live.connect()
        await caller.send(head)
        assert await caller.status() == status, head[:200]
        await answers_still(live)


async def test_input_that_is_not_http_gets_a_problem_document(live: Live) -> None:
    caller = await live.connect()
    await caller.send("rubbish\n\n")
    text = (await asyncio.wait_for(caller.reader.read(), 60)).decode()
    assert "content-type: application/problem+json" in text
    assert "x-request-id: " in text
    assert "urn:esrgan-serve:problem:bad-request" in text


async def test_requests_refused_before_the_application_are_counted(live: Live, caller: httpx.AsyncClient) -> None:
    stranger = await live.connect()
    await stranger.send("rubbish\n\n")
    assert await stranger.status() == 400
    metrics = (await caller.get("/metrics")).text
    assert 'esrgan_requests_total{model="",outcome="bad-request",route="other",status="400"} 1.0' in metrics


@IMPATIENT
async def test_a_reader_that_takes_nothing_of_its_answer_is_disconnected(live: Live) -> None:
    picture = encoded(noise(200, 190), "JPEG", quality=10)
    with socket.socket() as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(sleeper.connect, ("127.0.0.1", live.port))
        # More answers than the kernel buffers for a connection.
        request = f"POST /v1/upscale HTTP/1.1\r\nHost: a\r\nContent-Length: {len(picture)}\r\n\r\n".encode() + picture
        await asyncio.to_thread(sleeper.sendall, request * 6)
        connections = live.server.server_state.connections
        await until(lambda: len(connections) == 1)
        await until(lambda: not connections, within_s=30)
    await answers_still(live)


async def test_one_connection_too_many_closes_the_one_that_has_been_idle_longest(
    live: Live, caller: httpx.AsyncClient
) -> None:
    quiet = [await live.connect() for _ in range(12)]
    assert (await caller.get("/livez")).status_code == 200
    assert await quiet[0].closed()


async def test_too_many_requests_are_refused_while_probes_still_work(
    live: Live, caller: httpx.AsyncClient, life: Lifecycle
) -> None:
    uploads = [await live.connect() for _ in range(9)]
    for upload in uploads:
        await upload.send(HEAD + "\n", PICTURE[:20])
    await until(lambda: life.accepted == 9)
    refused = await caller.post("/v1/upscale", content=PICTURE)
    problem(refused, 429, "queue-full")
    assert refused.headers["retry-after"] == "1"
    assert (await caller.get("/readyz")).status_code == 200
    for upload in uploads:
        await upload.send("", PICTURE[20:])
    assert [await upload.status() for upload in uploads] == [200] * 9
