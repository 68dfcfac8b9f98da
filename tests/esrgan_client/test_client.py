"""The client against the service on a port, and against answers that a service does not send on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import get_type_hints

import httpx
import pytest

import esrgan_client
from app.http.parameters import Parameters as ParametersOfTheService
from app.http.submission import JobParameters as JobParametersOfTheService
from app.lists import hosts_of, networks_of
from esrgan_client import (
    AsyncClient,
    Busy,
    Client,
    Job,
    JobParameters,
    NotFound,
    Parameters,
    Problem,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from esrgan_client.problems import KINDS
from esrgan_client.retries import Attempts
from tests.app.conftest import encoded, noise
from tests.app.jobs.peer import Peer, Reply, listening
from tests.app.live import Live, until
from tests.app.processes import free_port
from tests.clock import ManualClock
from tests.esrgan_client.answers import PICTURE, answering, picture_file, problem

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(live: Live) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(live.address) as it:
        yield it


async def test_both_clients_give_the_answer_of_the_service(
    client: AsyncClient,
    live: Live,
    tmp_path: Path,
) -> None:
    (tmp_path / "in.png").write_bytes(PICTURE)
    made = await client.upscale(PICTURE, scale=2, edges="wrap", ensemble=True)

    def synchronously() -> None:
        with Client(live.address) as sync:
            sync.upscale_file(tmp_path / "in.png", tmp_path / "out.png", scale=2, edges="wrap", ensemble=True)
            assert (tmp_path / "out.png").read_bytes() == made.content
            again = sync.upscale(tmp_path / "in.png", scale=2, edges="wrap", ensemble=True)
            assert again.save(tmp_path / "saved.png").read_bytes() == made.content
            assert sync.models()["default"] == "tiny"

    await asyncio.to_thread(synchronously)
    await client.upscale_file(tmp_path / "in.png", tmp_path / "again.png", scale=2, edges="wrap", ensemble=True)
    assert (tmp_path / "again.png").read_bytes() == made.content


async def test_a_streamed_answer_goes_to_a_file(client: AsyncClient, tmp_path: Path) -> None:
    large = encoded(noise(80, 60))
    await client.upscale_file(picture_file(tmp_path, large), tmp_path / "o.png")
    assert (tmp_path / "o.png").read_bytes() == (await client.upscale(large)).content


async def test_an_answer_says_how_it_differs_from_the_upload(client: AsyncClient, live: Live, tmp_path: Path) -> None:
    plain = await client.upscale(PICTURE)
    assert (plain.format, plain.shown, plain.frames, plain.left_out, plain.upload_format) == ("png", 1, 1, [], "")
    assert plain.model.startswith("tiny@")
    assert plain.request_id
    frames = [noise(6, 5, seed=seed).quantize(8) for seed in range(3)]
    cat = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    clear = picture_file(tmp_path, encoded(noise(8, 8, mode="RGBA")))

    def synchronously() -> None:
        with Client(live.address) as sync:
            still = sync.upscale(cat, format="same")
            assert (still.format, still.shown, still.frames, still.upload_format) == ("png", 1, 3, "gif")
            assert sync.upscale_file(clear, tmp_path / "o.jpg", format="jpeg").left_out == ["transparency"]

    await asyncio.to_thread(synchronously)
    white = await client.upscale_file(clear, tmp_path / "o.jpg", format="jpeg")
    assert (white.format, white.left_out) == ("jpeg", ["transparency"])
    job = await client.wait((await client.submit(clear, format="jpeg")).id)
    assert (await client.result(job.id, tmp_path / "o.jpg")).left_out == ["transparency"]


def test_the_picture_of_an_answer_is_not_in_its_repr() -> None:
    transport, _ = answering(httpx.Response(200, content=b"made"))
    with Client("http://test", transport=transport) as client:
        assert "made" not in repr(client.upscale(PICTURE))


async def test_a_job_is_submitted_watched_and_fetched(client: AsyncClient, tmp_path: Path) -> None:
    seen: list[float] = []
    (tmp_path / "in.png").write_bytes(PICTURE)
    submitted = await client.submit([PICTURE, tmp_path / "in.png"], scale=2)
    job = await client.wait(submitted.id, on_progress=seen.append)
    assert (job.state, job.ended, job.progress, job.problem) == ("done", True, 1, None)
    assert seen[-1] == 1
    await client.result(job.id, tmp_path / "second.png", number=2)
    assert (tmp_path / "second.png").read_bytes() == (await client.upscale(PICTURE, scale=2)).content
    assert (await client.result(job.id, tmp_path / "both.zip")).format == "zip"
    assert (tmp_path / "both.zip").read_bytes()[:2] == b"PK"
    await client.cancel(job.id)
    with pytest.raises(NotFound):
        await client.job(job.id)


async def test_the_sync_client_submits_watches_and_fetches_jobs(live: Live, tmp_path: Path) -> None:
    def synchronously() -> None:
        with Client(live.address) as sync:
            job = sync.wait(sync.submit([PICTURE]).id)
            sync.result(job.id, tmp_path / "out.png")
            assert (tmp_path / "out.png").read_bytes() == sync.upscale(PICTURE).content
            sync.cancel(job.id)

    await asyncio.to_thread(synchronously)


PORT = free_port()
HOST = hosts_of(f"127.0.0.1:{PORT}")
HERE = {"allowed_networks": networks_of("127.0.0.0/8"), "fetch_hosts": HOST, "webhook_hosts": HOST}


@pytest.mark.parametrize("settings", [HERE], indirect=True)
async def test_a_picture_goes_from_url_to_url(client: AsyncClient, live: Live) -> None:
    replies = [Reply(body=PICTURE), Reply(), Reply()]
    async with listening(Peer(port=PORT, replies=replies)) as peer:
        source, target, hook = f"{peer.address}/in.png", f"{peer.address}/out.png", f"{peer.address}/hook"
        job = await client.wait((await client.submit_urls(source, target, scale=2, webhook=hook)).id)
        assert job.state == "done"
        await until(lambda: len(peer.received) == 3)
        assert [it.path for it in peer.received] == ["/in.png", "/out.png", "/hook"]
        assert peer.received[1].body == (await client.upscale(PICTURE, scale=2)).content

        def synchronously() -> None:
            with Client(live.address) as sync:
                several = sync.submit_urls([source, source], ensemble=True, webhook=hook, webhook_events="job.running")
                assert len(several.document["pictures"]) == 2
                sync.cancel(several.id)

        await asyncio.to_thread(synchronously)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_the_url_of_a_webhook_is_not_in_the_query(kind: type[Client | AsyncClient]) -> None:
    job = {"id": "job_1", "state": "waiting", "progress": 0, "problem": None}
    transport, seen = answering(httpx.Response(202, json=job))
    if kind is AsyncClient:
        async with AsyncClient("http://test", transport=transport) as client:
            await client.submit([PICTURE], webhook="https://test/secret", scale=2)
    else:
        with Client("http://test", transport=transport) as sync:
            await asyncio.to_thread(sync.submit, PICTURE, webhook="https://test/secret", scale=2)
    assert seen[0].url.query == b""
    assert b"https://test/secret" in seen[0].content
    assert PICTURE in seen[0].content


async def test_all_jobs_are_listed_page_by_page(
    client: AsyncClient, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esrgan_client.jobs.PAGE_JOBS", 2)
    ids = [(await client.submit([PICTURE])).id for _ in range(5)][::-1]
    assert [job.id async for job in client.jobs()] == ids
    for job in ids:
        await client.wait(job)
    await client.cancel(ids[0])

    def synchronously() -> None:
        with Client(live.address) as sync:
            assert [job.id for job in sync.jobs(state="done")] == ids[1:]
            assert list(sync.jobs(state="failed")) == []

    await asyncio.to_thread(synchronously)


async def test_problems_are_exceptions_of_their_kind(client: AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no model 'nope'") as missing:
        await client.upscale(PICTURE, model="nope")
    assert (missing.value.status, missing.value.type) == (404, "no-such-model")
    assert missing.value.request_id
    with pytest.raises(TooLarge):
        await client.upscale_file(picture_file(tmp_path, encoded(noise(300, 300))), tmp_path / "out.png")
    with pytest.raises(Unprocessable):
        await client.upscale(PICTURE, quality=1000)
    assert not (tmp_path / "out.png").exists()


def test_the_parameters_are_those_of_the_service() -> None:
    assert set(get_type_hints(Parameters)) == set(ParametersOfTheService.model_fields)
    assert set(get_type_hints(JobParameters)) == set(JobParametersOfTheService.model_fields)


def test_every_exception_can_be_imported() -> None:
    assert {kind.__name__ for kind in KINDS.values()} | {"Problem"} <= set(esrgan_client.__all__)


@pytest.mark.parametrize(
    "failure",
    [
        lambda: problem(429, headers={"Retry-After": "0"}),
        lambda: problem(503, headers={"Retry-After": "0"}),
        lambda: httpx.Response(502, text="Bad Gateway", headers={"Retry-After": "0"}),
    ],
)
def test_a_busy_service_is_asked_again(failure: Callable[[], httpx.Response], tmp_path: Path) -> None:
    transport, seen = answering(failure(), failure(), httpx.Response(200, content=b"made"))
    with Client("http://test", transport=transport) as client:
        client.upscale_file(picture_file(tmp_path, PICTURE), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"made"
    assert [request.content for request in seen] == [PICTURE] * 3


async def test_the_async_client_sends_the_whole_file_at_each_attempt(tmp_path: Path) -> None:
    transport, seen = answering(problem(429, headers={"Retry-After": "0"}), httpx.Response(200, content=b"made"))

    async def handle(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return transport.handle_request(request)

    async with AsyncClient("http://test", transport=httpx.MockTransport(handle)) as client:
        assert (await client.upscale(picture_file(tmp_path, PICTURE))).content == b"made"
    assert [request.content for request in seen] == [PICTURE] * 2


def test_a_job_that_is_sent_again_has_the_same_idempotency_key() -> None:
    job = {"id": "job_1", "state": "waiting", "progress": 0, "problem": None}
    transport, seen = answering(problem(503, headers={"Retry-After": "0"}), httpx.Response(202, json=job))
    with Client("http://test", key="secret", transport=transport) as client:
        assert client.submit([b"picture"]).id == "job_1"
    keys = [request.headers["Idempotency-Key"] for request in seen]
    assert keys[0] == keys[1]
    assert seen[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422, 500, 504, 507])
def test_other_problems_are_not_tried_again(status: int) -> None:
    transport, seen = answering(problem(status, "the reason"))
    with Client("http://test", transport=transport) as client, pytest.raises(Problem, match=f"{status}: the reason"):
        client.upscale(b"picture")
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_redirect_of_a_proxy_is_a_problem_too(kind: type[Client | AsyncClient], tmp_path: Path) -> None:
    source, target = picture_file(tmp_path, PICTURE), tmp_path / "out.png"
    moved = httpx.Response(308, headers={"Location": "https://test/"}, stream=httpx.ByteStream(b"use https"))
    transport = httpx.MockTransport(lambda request: moved)
    refused = pytest.raises(Problem, match="308: use https")
    if kind is AsyncClient:
        async with AsyncClient("http://test", transport=transport) as client:
            with refused:
                await client.upscale_file(source, target)
    else:
        with Client("http://test", transport=transport) as sync, refused:
            sync.upscale_file(source, target)


def test_a_key_from_a_file_may_end_with_a_line_break() -> None:
    transport, seen = answering(httpx.Response(200, json={}))
    with Client("http://test", key="secret\n", transport=transport) as client:
        client.models()
    assert seen[0].headers["Authorization"] == "Bearer secret"


def test_nothing_is_left_of_an_answer_that_breaks_off(tmp_path: Path) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]  # yields, then raises
            yield b"half"
            raise httpx.ReadError("reset")

    transport, _ = answering(httpx.Response(200, stream=Broken()))
    with Client("http://test", transport=transport, retry_s=0) as client, pytest.raises(httpx.ReadError):
        client.upscale_file(picture_file(tmp_path, PICTURE), tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_retry_after_is_honoured_and_the_total_time_is_bounded() -> None:
    now = 100.0
    attempts = Attempts(60, clock=lambda: now)
    assert attempts.pause_s(Busy("full", status=429, retry_after_s=7)) == 7
    assert [attempts.pause_s(Unavailable("loading", status=503)) for _ in range(3)] == [1, 2, 4]
    now = 155.0
    with pytest.raises(Busy):
        attempts.pause_s(Busy("full", status=429, retry_after_s=7))
    with pytest.raises(ZeroDivisionError):
        attempts.pause_s(ZeroDivisionError())


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Lines of an answer, after which ten minutes pass and the connection is lost."""

    def __init__(self, clock: ManualClock, *lines: str) -> None:
        self._clock, self._lines = clock, lines

    def __iter__(self) -> Iterator[bytes]:
        yield from (f"{line}\n".encode() for line in self._lines)
        self._clock.now_s += 600
        raise httpx.ReadError("reset")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


@pytest.mark.parametrize("kind", [Client, AsyncClient])
class TestWatching:
    """Watching a job for longer than the time for attempts."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
        clock = ManualClock()
        for module in ("sync_client", "async_client"):
            monkeypatch.setattr(f"esrgan_client.{module}.Attempts", partial(Attempts, clock=clock))
        monkeypatch.setattr("esrgan_client.retries.FIRST_PAUSE_S", 0)
        return clock

    @staticmethod
    async def wait(kind: type[Client | AsyncClient], transport: httpx.MockTransport) -> Job:
        if kind is AsyncClient:
            async with AsyncClient("http://test", transport=transport) as client:
                return await client.wait("job_1")
        with Client("http://test", transport=transport) as sync:
            return await asyncio.to_thread(sync.wait, "job_1")

    async def test_a_stream_is_opened_again_whenever_it_is_lost(
        self, kind: type[Client | AsyncClient], clock: ManualClock
    ) -> None:
        job = {"id": "job_1", "state": "done", "progress": 1, "problem": None}
        lost = [httpx.Response(200, stream=Stream(clock, ": still here")) for _ in range(3)]
        end = httpx.Response(200, text=f"event: state\ndata: {json.dumps(job)}\n\n")
        transport, seen = answering(lost[0], problem(503), lost[1], lost[2], end, httpx.Response(200, json=job))
        assert (await self.wait(kind, transport)).state == "done"
        assert len(seen) == 6

    async def test_a_service_that_stays_away_is_given_up(
        self, kind: type[Client | AsyncClient], clock: ManualClock
    ) -> None:
        seen = 0

        def handle(request: httpx.Request) -> httpx.Response:
            nonlocal seen
            seen += 1
            clock.now_s += 50
            return httpx.Response(200, stream=Stream(clock, ": still here")) if seen == 1 else problem(503)

        with pytest.raises(Unavailable):
            await self.wait(kind, httpx.MockTransport(handle))
        assert seen == 4  # the stream, and attempts that end 50, 100 and 150 s after it
