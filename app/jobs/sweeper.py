"""Remove expired jobs and files without a job; count jobs for metrics."""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from functools import partial

from app.jobs import ledger
from app.jobs.counters import JobCounters
from app.jobs.database import Database
from app.jobs.store import Store
from app.outages import Outage, repeat

COUNT_S = 2.0
"""Interval between counts for metrics."""

SWEEP_S = 30.0
"""Interval between sweeps."""

MAX_SHARE = 0.05
"""Share of the time that counting, or sweeping, may take: with millions of jobs they come less often, see `repeat`."""

FILES_AT_A_TIME = 1000
"""Files looked up in one transaction: other readers wait for it."""

ORPHAN_S = 3600.0
"""Age at which a file without a job is removed: an upload is in the store before its job is in the table."""

OWN_FILE = re.compile(r"job_[0-9a-f]{32}/(upload|result)-[0-9-]+(\.[0-9a-f]+\.part)?")
"""Names of jobs' files, including partly written ones; other files in the store are not touched."""

log = logging.getLogger(__name__)


class Sweeper:
    """Runs in every process. Belongs to the event loop."""

    def __init__(self, database: Database, store: Store, counters: JobCounters) -> None:
        self._database = database
        self._store = store
        self._counters = counters
        self._tasks: Sequence[asyncio.Task[None]] = ()

    def start(self) -> None:
        """Start to count and to sweep, in separate tasks, because a sweep may take long."""
        self._tasks = [
            asyncio.create_task(repeat(call, every_s, Outage(log, name), max_share=MAX_SHARE), name=name)
            for call, every_s, name in ((self.count, COUNT_S, "count jobs"), (self.sweep, SWEEP_S, "sweep jobs"))
        ]

    async def stop(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def count(self) -> None:
        """Count jobs and deliveries for metrics."""
        self._counters.totals = await self._database.read(ledger.totals)
        self._counters.totals_s = time.monotonic()

    async def sweep(self) -> None:
        """Remove expired jobs with their files, then files that belong to no job."""
        while True:
            removed, files = await self._database.write(ledger.expire)
            await self._store.delete(files)
            self._counters.expired += removed
            if not removed:
                break
        before = time.time() - ORPHAN_S
        old = sorted(
            file.name for file in await self._store.files() if file.modified < before and OWN_FILE.fullmatch(file.name)
        )
        for start in range(0, len(old), FILES_AT_A_TIME):
            names = old[start : start + FILES_AT_A_TIME]
            jobs = {name.partition("/")[0] for name in names}
            known = await self._database.read(partial(ledger.known_files, job_ids=jobs))
            if orphans := [name for name in names if name not in known]:
                log.info("removing %d files of no job", len(orphans))
                await self._store.delete(orphans)
