"""Deliver webhooks by the Standard Webhooks specification: signed, retried for 19 hours, and recorded in the job."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from socket import gaierror
from typing import Any

import httpx2

from app.errors import NoSuchJob, SourceRefused
from app.jobs import outbox
from app.jobs.counters import JobCounters
from app.jobs.database import Database, Session
from app.jobs.ledger import find
from app.jobs.outbox import Delivery
from app.jobs.outgoing import Outgoing
from app.jobs.view import JobView, moment
from app.outages import Outage
from app.waiting import is_set_within

DELAYS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 18000, 21600)
"""Time before each retry: 19 hours in total, so that by default the last one comes before the job expires."""

JITTER = 0.2
"""Share by which each delay varies, so that a receiver that has recovered does not get all retries at once."""

ANSWER_S = 15.0
MAX_RETRY_AFTER_S = 3600
MAX_RUNNING = 8
MAX_OF_ONE_HOST = 2
"""Maximum concurrent deliveries to one host, so that a host that does not answer leaves room for others."""

MAX_OF_ONE_KEY = MAX_RUNNING // 2
"""Maximum concurrent deliveries of one key, whose receivers may all not answer."""

POLL_S = 1.0
LEASE_S = 60.0
MIN_SECRET_BYTES = 24

log = logging.getLogger(__name__)


def signature(secret: str, webhook_id: str, timestamp: int, body: str) -> str:
    """Sign a webhook: HMAC-SHA256 over its id, its time and its body.

    Args:
        secret: `whsec_` and the key in base64.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def seconds_of(retry_after: str) -> float:
    """Return the seconds of a `Retry-After`, which may be a date (RFC 9110, 10.2.3); 0 if it is missing or invalid."""
    if retry_after.isdecimal():
        return min(int(retry_after[:9]), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(retry_after)
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


class WebhookSecrets:
    """Derives the secret of each API key from those of the service, so that the key file needs no secrets.

    Args:
        masters: secrets of the service, newest first. All of them sign, so that receivers can migrate to a new one.
    """

    def __init__(self, masters: Sequence[str]) -> None:
        self._masters = masters

    @classmethod
    def read(cls, path: Path, *, create: bool = False) -> "WebhookSecrets":
        """Read a file with one secret per line.

        Args:
            create: create it, with one secret, if it is missing.

        Raises:
            OSError: it cannot be read or created.
            ValueError: it has no secret, or one that is too short.
        """
        if create and not path.exists():
            part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
                with suppress(FileExistsError):
                    os.link(part, path)  # unlike a rename, never replaces the file that another process has created
            finally:
                part.unlink()
        masters = path.read_text(encoding="utf-8").split()
        if not masters or min(map(len, masters)) < MIN_SECRET_BYTES:
            raise ValueError(f"it needs a secret of {MIN_SECRET_BYTES} characters or more on each line")
        return cls(masters)

    def of_key(self, key_name: str) -> Sequence[str]:
        """Return the secrets of a key, newest first."""
        digests = [hmac.new(master.encode(), key_name.encode(), hashlib.sha256).digest() for master in self._masters]
        return [f"whsec_{base64.b64encode(digest).decode()}" for digest in digests]


class Deliverer:
    """Delivers the webhooks of the outbox. Belongs to the event loop.

    Args:
        prefix: prefix of the URLs in jobs; see `JobView.of`.
    """

    def __init__(
        self,
        database: Database,
        outgoing: Outgoing,
        keys: WebhookSecrets,
        counters: JobCounters,
        *,
        prefix: str = "",
        delays_s: Sequence[float] = DELAYS_S,
    ) -> None:
        self._database = database
        self._outgoing = outgoing
        self._keys = keys
        self._counters = counters
        self._prefix = prefix
        self._delays_s = delays_s
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to deliver."""
        self._loop = asyncio.create_task(self._deliver_forever(), name="webhooks")

    def wake(self) -> None:
        """Look for webhooks now."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop; the remaining webhooks are delivered by another process, or after the next start."""
        tasks = [*self._running, *([self._loop] if self._loop is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver_forever(self) -> None:
        outage = Outage(log, "take webhooks")
        while True:
            self._wake.clear()
            with outage:
                while len(self._running) < MAX_RUNNING and (delivery := await self._next_due()):
                    task = asyncio.create_task(self._deliver(delivery), name=delivery.id)
                    self._running[task] = delivery
                    task.add_done_callback(self._ended)
            await is_set_within(self._wake, POLL_S)

    async def _next_due(self) -> Delivery | None:
        running = self._running.values()
        take = partial(
            outbox.take,
            owner=secrets.token_hex(8),
            lease_s=LEASE_S,
            busy_origins=_frequent((it.origin for it in running), MAX_OF_ONE_HOST),
            busy_keys=_frequent((it.key_name for it in running if it.key_name), MAX_OF_ONE_KEY),
        )
        return await self._database.write(take)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a webhook could not be recorded", exc_info=error)
        self._wake.set()

    async def _deliver(self, delivery: Delivery) -> None:
        """Attempt a delivery, and record its outcome and the next attempt."""
        began_s = time.monotonic()
        status, error, retry_after_s = 0, "", 0.0
        try:
            body = await self._database.write(partial(self._body, delivery=delivery))
            async with asyncio.timeout(ANSWER_S):
                status, retry_after_s = await self._post(delivery, body)
        except NoSuchJob:
            return  # it was removed, and its webhooks with it
        except (TimeoutError, gaierror, httpx2.TransportError) as failure:
            error = type(failure).__name__
        except SourceRefused as refusal:
            error = refusal.detail
        attempt: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "status": status or None,
            "error": error or None,
            "seconds": round(time.monotonic() - began_s, 3),
        }
        state, wait_s = self._next(delivery, status, retry_after_s)
        self._counters.webhooks["retried" if state == "waiting" else state] += 1
        log.info("job %s webhook %s: %s", delivery.job_id, delivery.id, status or error)
        await self._database.write(partial(outbox.note, delivery=delivery, attempt=attempt, state=state, wait_s=wait_s))

    def _body(self, session: Session, *, delivery: Delivery) -> str:
        job = JobView.of(find(session, delivery.job_id), self._prefix)
        message = {
            "type": delivery.event,
            "timestamp": moment(delivery.created).isoformat(timespec="milliseconds"),
            "data": job.model_dump(mode="json"),
        }
        return outbox.fix_body(session, delivery.id, json.dumps(message, ensure_ascii=False, separators=(",", ":")))

    async def _post(self, delivery: Delivery, body: str) -> tuple[int, float]:
        timestamp = int(time.time())
        signatures = [signature(key, delivery.id, timestamp, body) for key in self._keys.of_key(delivery.key_name)]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
        async with self._outgoing.request("POST", delivery.url, headers=headers, content=body.encode()) as response:
            return response.status_code, seconds_of(response.headers.get("retry-after", ""))

    def _next(self, delivery: Delivery, status: int, retry_after_s: float) -> tuple[str, float]:
        """Return the state of a delivery after an attempt, and the time until the next one."""
        if 200 <= status < 300:
            return "delivered", 0.0
        attempts = len(delivery.attempts) + 1
        if status == 410 or attempts > len(self._delays_s):  # the receiver is gone for good
            return "failed", 0.0
        delay_s = self._delays_s[attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)
        return "waiting", max(delay_s, retry_after_s)


def _frequent(names: Iterable[str], times: int) -> list[str]:
    """Return names that occur at least `times` times."""
    return [name for name, count in Counter(names).items() if count >= times]
