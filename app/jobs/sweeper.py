"""Removes what has expired, and what nobody needs; and counts what there is."""

import asyncio
import logging
import re
import time

from app.errors import ServiceError
from app.jobs import ledger
from app.jobs.counters import JobCounters
from app.jobs.database import Database
from app.jobs.store import Store

COUNT_S = 2.0
"""Interval between counts, which metrics show."""

SWEEP_S = 30.0
ORPHAN_S = 3600.0
"""Age at which a file without a job is removed; the upload of a job is in the store before the job is in the table."""

OWN_FILE = re.compile(r"job_[0-9a-f]{32}/(upload|result)-[0-9-]+(\.[0-9a-f]+\.part)?")
"""Names of files of jobs, also of half-written ones; others in the store are not touched."""

log = logging.getLogger(__name__)


class Sweeper:
    """Runs in every process. Belongs to the event loop."""

    def __init__(self, database: Database, store: Store, counters: JobCounters) -> None:
        self._database = database
        self._store = store
        self._counters = counters
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to sweep."""
        self._task = asyncio.create_task(self._sweep_forever(), name="sweep jobs")

    async def stop(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep_forever(self) -> None:
        swept_s = 0.0
        while True:
            try:
                self._counters.totals = await self._database.read(ledger.totals)
                self._counters.totals_s = time.monotonic()
                if time.monotonic() - swept_s >= SWEEP_S:
                    swept_s = time.monotonic()
                    await self.sweep()
            except ServiceError as error:
                log.warning("jobs cannot be swept: %s", error.reason)
            except Exception:
                log.exception("jobs cannot be swept")
            await asyncio.sleep(COUNT_S)

    async def sweep(self) -> None:
        """Remove expired jobs with their files, then files that belong to no job."""
        while True:
            removed, files = await self._database.write(ledger.expire)
            await self._store.delete(files)
            self._counters.expired += removed
            if not removed:
                break
        before = time.time() - ORPHAN_S
        old = [
            file.name for file in await self._store.files() if file.modified < before and OWN_FILE.fullmatch(file.name)
        ]
        if not old:
            return
        known = await self._database.read(ledger.known_files)
        if orphans := [name for name in old if name not in known]:
            log.info("removing %d files of no job", len(orphans))
            await self._store.delete(orphans)
