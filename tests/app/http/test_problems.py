"""Problem documents note their kind in the request's record when they are sent."""

import contextvars
import json
from collections.abc import AsyncGenerator

import httpx
import pytest
from starlette.types import Message

from app.errors import TooLarge
from app.http.problems import ProblemResponse, answer_to
from app.jobs.database import DatabaseDown
from app.jobs.store import StoreDown
from app.lifecycle import Lifecycle
from app.record import RequestRecord, begin_record
from tests.app.conftest import encoded, noise, problem
from tests.app.http.endpoints.test_jobs import create, ended
from tests.app.live import Live

pytestmark = pytest.mark.anyio


def made_for(record: RequestRecord) -> ProblemResponse:
    begin_record(record)
    return answer_to(TooLarge("far too large"))


async def receive() -> Message:
    raise NotImplementedError


async def test_making_a_problem_document_writes_nothing_into_the_record() -> None:
    record = RequestRecord()
    answer = contextvars.copy_context().run(made_for, record)
    assert answer.kind == "too-large"
    assert record.problem == ""


async def test_sending_a_problem_document_notes_its_kind() -> None:
    record, sent = RequestRecord(), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    answer = made_for(record)
    await answer({"type": "http", "method": "GET", "path": "/"}, receive, send)
    assert record.problem == "too-large"
    assert sent[0]["status"] == 413


async def test_the_reason_of_an_outage_is_in_the_log_and_not_in_the_answer(
    client: httpx.AsyncClient, life: Lifecycle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(_: object) -> None:
        raise DatabaseDown("10.0.0.7 refused the connection")

    monkeypatch.setattr(life.jobs.parts.database, "read", away)
    for _ in range(3):
        answer = await client.get("/v1/jobs/job_1")
        assert "cannot be reached" in problem(answer, 503, "unavailable")
        assert "10.0.0.7" not in answer.text
    said = "GET /v1/jobs/job_1: 10.0.0.7 refused the connection"
    assert caplog.messages.count(said) == 1  # not for each request
    monkeypatch.setattr("app.http.problems.LOG_INTERVAL_S", 0.0)
    await client.get("/v1/jobs/job_1")
    assert caplog.messages.count(said) == 2


async def test_the_reason_that_cuts_off_an_answer_is_in_the_log(
    caller: httpx.AsyncClient, live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def cut_off(result: object, first: int, end: int) -> AsyncGenerator[bytes, None]:
        yield b"x"
        raise StoreDown("10.0.0.7 refused the connection")

    job = await ended(caller, (await create(caller))["id"])
    monkeypatch.setattr(live.life.jobs, "read", cut_off)
    with pytest.raises(httpx.TransportError):
        await caller.get(job["result"]["href"])
    assert "the answer was aborted: 10.0.0.7 refused the connection" in caplog.text


@pytest.mark.parametrize(
    ("query", "said"), [("scle=2", "scle: unknown parameter; did you mean scale?"), ("zzz=1", "/docs lists all")]
)
async def test_an_unknown_parameter_is_named_with_the_nearest_one(
    client: httpx.AsyncClient, query: str, said: str
) -> None:
    answer = await client.post(f"/v1/upscale?{query}", content=encoded(noise(5, 5)))
    assert said in problem(answer, 422, "unprocessable")


async def test_the_nearest_parameter_is_one_of_the_endpoint(client: httpx.AsyncClient) -> None:
    said = problem(await client.get("/v1/jobs?sate=done"), 422, "unprocessable")
    assert said == "sate: unknown parameter; did you mean state?"


async def test_of_many_unknown_parameters_five_are_named(client: httpx.AsyncClient) -> None:
    query = "&".join(f"zzz{number}=1" for number in range(7))
    text = problem(await client.post(f"/v1/upscale?{query}", content=encoded(noise(5, 5))), 422, "unprocessable")
    assert text.count("unknown parameter") == 5


async def test_what_a_caller_sent_is_repeated_in_part(client: httpx.AsyncClient) -> None:
    long = "x" * 300
    value = problem(await client.post(f"/v1/upscale?scale={long}", content=b""), 422, "unprocessable")
    name = problem(await client.post(f"/v1/upscale?{long}=1", content=b""), 422, "unprocessable")
    path = problem(await client.get(f"/{long}"), 404, "not-found")
    assert [text.count("x" * count) for text, count in ((value, 100), (name, 100), (path, 199))] == [1, 1, 1]
    assert [text.count("x" * count) for text, count in ((value, 101), (name, 101), (path, 200))] == [0, 0, 0]


@pytest.mark.parametrize("document", [{"source": f"https://a.example/b?secret={'x' * 5000}"}, {"b?secret=1": 1}])
async def test_the_secret_of_a_url_is_not_repeated(client: httpx.AsyncClient, document: dict[str, object]) -> None:
    text = problem(
        await client.post("/v1/jobs", json={"source": "https://a.example/b"} | document), 422, "unprocessable"
    )
    assert "b" in text
    assert "secret" not in text


async def test_the_root_has_no_slash_to_remove(client: httpx.AsyncClient) -> None:
    assert "/docs lists all endpoints" in problem(await client.post("/"), 405, "method-not-allowed")


def test_a_name_that_is_not_utf_8_is_escaped() -> None:
    assert json.loads(bytes(answer_to(TooLarge("caf\udce9")).body))["detail"] == "caf\\udce9"
