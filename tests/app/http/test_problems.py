"""Problem documents: who writes the kind of a problem into a request's record, and when."""

import contextvars

import httpx
import pytest
from starlette.types import Message

from app.errors import TooLarge
from app.http.problems import ProblemResponse, answer_to
from app.record import RequestRecord, begin_record
from tests.app.conftest import encoded, noise, problem

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


@pytest.mark.parametrize(
    ("query", "said"), [("scle=2", "scle: unknown parameter; did you mean scale?"), ("zzz=1", "/docs lists all")]
)
async def test_an_unknown_parameter_is_named_with_the_nearest_one(
    client: httpx.AsyncClient, query: str, said: str
) -> None:
    answer = await client.post(f"/v1/upscale?{query}", content=encoded(noise(5, 5)))
    assert said in problem(answer, 422, "unprocessable")
