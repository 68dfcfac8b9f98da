"""Databases of jobs on a clock that only the test moves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.jobs.database import Database
from app.jobs.sqlite import SqliteDatabase


class ManualClock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    opened = SqliteDatabase(tmp_path / "jobs.sqlite", clock)
    yield opened
    await opened.close()
