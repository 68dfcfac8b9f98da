"""The sweeper removes files that no job needs, and keeps others."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.jobs import sweeper as sweepers
from app.jobs.counters import JobCounters
from app.jobs.database import Database
from app.jobs.folder import FolderStore
from app.jobs.job import new_job_id
from app.jobs.store import one
from app.jobs.sweeper import ORPHAN_S, Sweeper
from tests.app.jobs.rows import added, ended, new_job, taken
from tests.app.live import until

pytestmark = pytest.mark.anyio


class HungStore(FolderStore):
    """A store that hangs on deletion."""

    async def delete(self, names: Iterable[str]) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
async def test_old_files_of_no_job_are_removed_and_those_of_others_are_left(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(sweepers, "FILES_AT_A_TIME", at_a_time)
    store = FolderStore(tmp_path / "files")
    waiting, running, done = new_job(), new_job(), new_job()
    await added(database, done)
    held = await taken(database)
    await ended(database, held)
    await added(database, running)
    unrecorded = (await taken(database)).result_name  # the database cannot be written to since it was stored
    await added(database, waiting)
    lost = new_job_id()
    others = ["backups/2026.tar", "job_1/notes", f"{lost}/readme.txt"]
    kept = [waiting.pictures[0].upload_name, held.result_name, unrecorded, *others]
    gone = [f"{running.id}/result-1-0", f"{lost}/upload-1", f"{lost}/result-2-3", f"{lost}/result-1-1.0a1b2c3d.part"]
    for name in [*kept, *gone]:
        await store.put(name, one(b"x"))
        old_s = time.time() - ORPHAN_S - 60
        os.utime(tmp_path / "files" / name, (old_s, old_s))
    await store.put(f"{lost}/upload-2", one(b"x"))  # a new one, whose job may follow
    await Sweeper(database, store, JobCounters()).sweep()
    assert {file.name for file in await store.files()} == {*kept, f"{lost}/upload-2"}


async def test_jobs_are_counted_while_a_sweep_takes_long(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweepers, "COUNT_S", 0.02)
    counters = JobCounters()
    sweeper = Sweeper(database, HungStore(tmp_path / "files"), counters)
    sweeper.start()
    await asyncio.sleep(0.1)
    await added(database)
    await until(lambda: counters.totals.jobs == {"waiting": 1})
    await sweeper.stop()
