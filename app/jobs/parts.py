"""Joins the parts of the jobs: database, store, runner, webhooks, sweeper."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.jobs.addresses import AddressRules
from app.jobs.counters import JobCounters
from app.jobs.database import Database
from app.jobs.ledger import JobLimits
from app.jobs.opening import open_database, open_store, open_webhook_secrets
from app.jobs.outgoing import Outgoing
from app.jobs.runner import Runner
from app.jobs.store import Store
from app.jobs.submission import Submission
from app.jobs.sweeper import Sweeper
from app.jobs.transfer import Transfer
from app.jobs.watch import Watch
from app.jobs.webhooks import Deliverer
from app.jobs.worker import Worker
from app.record import Observer
from app.service import UpscaleService
from app.settings import Settings

CLOSE_S = 0.5
"""Maximum time to close the database; a transaction that takes longer ends with the process."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of open jobs."""

    database: Database
    store: Store
    runner: Runner
    deliverer: Deliverer
    sweeper: Sweeper
    sources: Outgoing
    hooks: Outgoing

    @classmethod
    def open(
        cls,
        settings: Settings,
        folder: Path,
        watch: Watch,
        counters: JobCounters,
        limits: Callable[[str], JobLimits],
    ) -> "Parts":
        """Open store, secrets and database.

        Args:
            limits: see `Runner`.

        Raises:
            SettingsError: they cannot be used.
            Unavailable: they cannot be reached, or their disk is full.
        """
        store = open_store(settings, folder)
        keys = open_webhook_secrets(settings, folder)
        database = open_database(settings, folder)  # last: an error after it would have to close its connections
        networks = settings.allowed_networks
        sources = Outgoing(AddressRules(settings.fetch_hosts, setting="ESRGAN_FETCH_HOSTS", networks=networks))
        hooks = Outgoing(AddressRules(settings.webhook_hosts, setting="ESRGAN_WEBHOOK_HOSTS", networks=networks))
        deliverer = Deliverer(database, hooks, keys, counters, prefix=settings.root_path)
        transfer = Transfer(sources, whole_s=settings.upload_s, min_bytes_per_s=settings.upload_bytes_per_s)
        worker = Worker(settings, store, transfer, watch)
        runner = Runner(settings, database, store, worker, watch, counters, limits)
        runner.on_end = deliverer.wake
        return cls(
            database=database,
            store=store,
            runner=runner,
            deliverer=deliverer,
            sweeper=Sweeper(database, store, counters),
            sources=sources,
            hooks=hooks,
        )

    def start(self, service: UpscaleService, observers: Sequence[Observer]) -> None:
        """Start the tasks."""
        self.runner.observers = observers
        self.runner.start(service)
        self.deliverer.start()
        self.sweeper.start()

    async def close(self) -> None:
        """Stop the tasks, and close the database if it answers."""
        await self.runner.stop()
        await self.deliverer.stop()
        await self.sweeper.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.database.close()

    def check_urls(self, submission: Submission) -> None:
        """Check the URLs of a job without resolving their hosts.

        Raises:
            SourceRefused: one is not allowed.
        """
        for url in [*submission.sources, *filter(None, submission.targets)]:
            self.sources.rules.check(url)
        if submission.webhook:
            self.hooks.rules.check(submission.webhook)


def default_folder() -> Path:
    """Return the default folder of jobs (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "esrgan-serve"
