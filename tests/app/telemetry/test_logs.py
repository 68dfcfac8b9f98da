"""The log: one line per request, with everything known about it, as text and as JSON."""

import asyncio
import contextvars
import io
import json
import logging
import logging.config
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO, cast

import httpx
import pytest
from fastapi import FastAPI

from app.record import RequestRecord, begin_record
from app.service import UpscaleService
from app.telemetry.log_queue import BackgroundLog
from app.telemetry.logs import JsonFormatter, log_config
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise
from tests.app.http.endpoints.test_endpoints import send_and_hang_up
from tests.app.in_process import client_of

pytestmark = pytest.mark.anyio

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Collect the lines of the access log, one object each."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("app.access")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    log.removeHandler(handler)
    log.setLevel(level)


async def test_a_request_leaves_one_line_with_its_sizes_and_stages(client: httpx.AsyncClient, lines: Lines) -> None:
    upload = encoded(noise(12, 9))
    answer = await client.post("/v1/upscale", content=upload)
    (line,) = lines()
    assert (line["method"], line["path"], line["status"], line["outcome"]) == ("POST", "/v1/upscale", 200, "done")
    assert (line["model"], line["width_px"], line["height_px"]) == ("tiny", 12, 9)
    assert (line["received_bytes"], line["sent_bytes"]) == (len(upload), len(answer.content))
    stages = [line[f"{stage}_ms"] for stage in ("read", "decode", "queue", "infer", "encode", "send")]
    assert all(isinstance(took_ms, float) and took_ms >= 0 for took_ms in stages)


async def test_a_line_has_the_address_of_the_peer(app: FastAPI, client: httpx.AsyncClient, lines: Lines) -> None:
    for address in ("192.0.2.7", "2001:db8::7"):
        async with client_of(app, (address, 4321)) as caller:
            await caller.get("/nothing", headers={"X-Forwarded-For": "198.51.100.1"})  # anybody may have written it
    async with client_of(app, None) as caller:
        await caller.get("/nothing")
    assert [line.get("client") for line in lines()] == ["192.0.2.7", "2001:db8::7", None]
    assert "198.51.100.1" not in json.dumps(lines())


async def test_a_refused_request_is_logged_with_the_problem(client: httpx.AsyncClient, lines: Lines) -> None:
    await client.post("/v1/upscale?model=other", content=encoded(noise(5, 5)))
    await client.post("/v1/upscale", content=b"no picture")
    await client.get("/nothing")
    assert [(line["status"], line["outcome"]) for line in lines()] == [
        (404, "no-such-model"),
        (415, "unsupported-format"),
        (404, "not-found"),
    ]


async def test_a_caller_that_left_is_logged_as_499(
    app: FastAPI, client: httpx.AsyncClient, blocked: BlockedDevice, lines: Lines
) -> None:
    stays = asyncio.create_task(client.post("/v1/upscale", content=encoded(noise(5, 5))))
    await blocked.at_work()
    await asyncio.wait_for(send_and_hang_up(app, encoded(noise(6, 5))), 60)
    blocked.gate.set()
    await stays
    left, stayed = lines()
    assert (left["status"], left["outcome"]) == (499, "left")
    assert stayed["outcome"] == "done"


async def test_probes_are_logged_only_when_they_fail(
    client: httpx.AsyncClient, service: UpscaleService, lines: Lines
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    assert lines() == []
    await service.scheduler.stop(drain_s=1)
    assert (await client.get("/readyz")).status_code == 503
    assert [line["status"] for line in lines()] == [503]


async def test_a_caller_cannot_write_lines_into_the_log(client: httpx.AsyncClient, lines: Lines) -> None:
    await client.get("/a%0aINFO forged")
    (line,) = lines()
    assert line["path"] == "/a%0AINFO%20forged"


async def test_both_formats_carry_the_request_id(client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(log_config("line"))
        await client.get("/nothing", headers={"X-Request-Id": "first-7"})
        logging.config.dictConfig(log_config("json"))
        await client.get("/nothing", headers={"X-Request-Id": "second-8"})
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    text, json_text = (line for line in capsys.readouterr().err.splitlines() if "app.access" in line)
    assert "[first-7] app.access: GET /nothing 404 outcome=not-found" in text
    assert json.loads(json_text)["request_id"] == "second-8"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Restore the root logger after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_unread_log_delays_no_request_and_reports_dropped_lines(root: logging.Logger) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as end, os.fdopen(reading) as log:
        logging.config.dictConfig(log_config("json"))
        cast("logging.StreamHandler[TextIO]", root.handlers[0]).setStream(end)
        lines = BackgroundLog(max_lines=100)
        for n in range(1000):
            logging.getLogger("x").info("%d %s", n, "-" * 1000)  # several times the buffer of a pipe
        lines.flush(within_s=0.01)
        told = [json.loads(log.readline())["message"] for _ in range(50)]
        assert [int(text.split()[0]) for text in told] == list(range(50))
        until_s = time.monotonic() + 10
        while "dropped" not in told[-1] and time.monotonic() < until_s:
            logging.getLogger("x").info("and on")
            told.append(json.loads(log.readline())["message"])
        dropped = int(told[-1].split()[0])
        assert 0 < dropped < 1000
        reader = threading.Thread(target=log.read)
        reader.start()
        lines.close()
        end.close()
        reader.join()


def test_lines_written_in_the_background_have_their_request_id(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(log_config("line"))
    lines = BackgroundLog()

    def work() -> None:
        begin_record(RequestRecord(id="first-7"))
        logging.getLogger("x").warning("half %s", "done")
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("x").exception("failed")

    contextvars.copy_context().run(work)
    lines.close()
    text = capsys.readouterr().err
    assert "WARNING [first-7] x: half done" in text
    assert "ERROR [first-7] x: failed" in text
    assert text.count("ValueError: no") == 1


def test_odd_requests_are_logged_only_by_the_access_log(root: logging.Logger) -> None:
    logging.config.dictConfig(log_config("line"))
    assert not logging.getLogger("uvicorn.error").isEnabledFor(logging.WARNING)
    assert logging.getLogger("uvicorn.error").isEnabledFor(logging.ERROR)


def test_libvips_does_not_report_its_threads(root: logging.Logger) -> None:
    logging.config.dictConfig(log_config("line"))
    assert not logging.getLogger("pyvips.vimage").isEnabledFor(logging.INFO)


def test_an_error_is_logged_as_one_json_object_with_its_traceback() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, (ValueError, error, error.__traceback__))
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: a\nb" in json.loads(line)["exception"]


def test_the_client_of_outgoing_requests_does_not_log_urls_whose_queries_may_be_secrets() -> None:
    loggers = cast(dict[str, dict[str, str]], log_config("line", "DEBUG")["loggers"])
    assert {loggers[name]["level"] for name in ("httpx2", "httpcore2")} == {"WARNING"}
