"""Failures that repeat are logged once, with their end."""

import asyncio
import logging
from pathlib import Path

import pytest

from app.jobs import sweeper as sweepers
from app.jobs.counters import JobCounters
from app.jobs.database import DatabaseDown
from app.jobs.sqlite import SqliteDatabase
from app.jobs.sweeper import Sweeper
from app.outages import Outage, repeat
from tests.app.jobs.test_runner import House
from tests.app.live import until

log = logging.getLogger("app.jobs.test")


def attempt(outage: Outage, error: BaseException | None = None) -> None:
    with outage:
        if error is not None:
            raise error


def test_a_line_is_logged_for_each_reason_and_one_for_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage(log, "claim jobs")
    errors = [None, DatabaseDown("gone"), DatabaseDown("gone"), DatabaseDown("full"), DatabaseDown("full"), None, None]
    for error in errors:
        attempt(outage, error)
    assert caplog.messages == ["cannot claim jobs: gone", "cannot claim jobs: full", "can claim jobs again"]
    assert outage.reason == ""


def test_an_unexpected_error_is_logged_with_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(log, "claim jobs")
    for _ in range(3):
        attempt(outage, RuntimeError("a fault"))
    (entry,) = caplog.records
    assert (entry.levelname, bool(entry.exc_info)) == ("ERROR", True)


def test_an_error_without_a_text_is_an_outage_too(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(log, "claim jobs")
    attempt(outage, TimeoutError())
    assert (outage.reason, caplog.messages) == ("TimeoutError()", ["cannot claim jobs: TimeoutError()"])


@pytest.mark.anyio
async def test_work_that_takes_long_pauses_longer_but_not_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, pauses = 0.0, list[float]()
    outcomes: list[tuple[float, Exception | None]] = [
        (0.1, None),
        (0.5, None),
        (30, DatabaseDown("gone")),
        (30, None),  # waited, and was answered in the end
    ]

    async def work() -> None:
        nonlocal now_s
        took_s, error = outcomes[len(pauses)]
        now_s += took_s
        if error is not None:
            raise error

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == len(outcomes):
            raise asyncio.CancelledError

    monkeypatch.setattr("app.outages.time.monotonic", lambda: now_s)
    monkeypatch.setattr("app.outages.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await repeat(work, 2.0, Outage(log, "count jobs"), max_share=0.05)
    assert pauses == pytest.approx([2.0, 10.0, 2.0, 40.0])


def test_a_cancellation_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(asyncio.CancelledError):
        attempt(Outage(log, "claim jobs"), asyncio.CancelledError())
    assert caplog.messages == []


@pytest.mark.anyio
async def test_an_outage_of_the_database_leaves_a_line_for_each_task_and_not_for_each_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.jobs")
    monkeypatch.setattr(sweepers, "COUNT_S", 0.02)
    monkeypatch.setattr(sweepers, "SWEEP_S", 0.02)
    monkeypatch.setattr("app.jobs.runner.POLL_S", 0.02)
    house = House(tmp_path)
    sweeper = Sweeper(house.database, house.store, JobCounters())
    monkeypatch.setattr(SqliteDatabase, "read", house.database.write)
    house.database.down = True
    house.runner.start(house.service)
    sweeper.start()
    await until(lambda: len(caplog.messages) >= 3)
    await asyncio.sleep(0.1)  # time for further attempts
    assert sorted(caplog.messages) == ["cannot claim jobs: gone", "cannot count jobs: gone", "cannot sweep jobs: gone"]
    caplog.clear()
    house.database.down = False
    await until(lambda: len(caplog.messages) >= 3)
    assert sorted(caplog.messages) == ["can claim jobs again", "can count jobs again", "can sweep jobs again"]
    await house.runner.stop()
    await sweeper.stop()
    await house.database.close()
