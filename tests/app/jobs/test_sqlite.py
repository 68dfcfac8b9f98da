"""A file of jobs that several processes open at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from app.jobs.sqlite import SqliteDatabase

AT_ONCE = 6

pytestmark = pytest.mark.anyio


async def test_replicas_that_start_at_once_create_the_file_together(tmp_path: Path) -> None:
    start = Barrier(AT_ONCE)

    def opened(path: Path) -> SqliteDatabase:
        start.wait()
        return SqliteDatabase(path)

    with ThreadPoolExecutor(AT_ONCE) as replicas:
        for number in range(120):  # without taking turns, about one of them is locked
            path = tmp_path / f"{number}.sqlite"
            databases = [*replicas.map(opened, [path] * AT_ONCE)]
            await asyncio.gather(*(database.close() for database in databases))
