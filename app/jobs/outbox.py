"""Webhooks to deliver. A change of a job and its webhook are written in one transaction."""

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from app.errors import NoSuchJob, NotReady
from app.jobs.addresses import DEFAULT_PORTS
from app.jobs.database import Session
from app.jobs.job import JobState, Row

EVENTS: Sequence[str] = tuple(f"job.{state.value}" for state in JobState if state is not JobState.WAITING)
DEFAULT_EVENTS: Sequence[str] = ("job.done", "job.failed", "job.cancelled")

MAX_ATTEMPTS = 50
"""Maximum attempts in the log of a webhook; the latest ones are kept."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A webhook and the attempts to deliver it."""

    id: str
    """Also the header `webhook-id`: the same in every attempt."""
    job_id: str
    key_name: str
    url: str
    event: str
    created: float
    state: str
    """`waiting`, `delivered` or `failed`."""
    not_before: float
    owner: str | None
    """Holds it while it is attempted."""
    attempts: Sequence[dict[str, Any]]

    @property
    def origin(self) -> str:
        """Scheme, host and port of its URL."""
        return "/".join(self.url.split("/", 3)[:3])

    @classmethod
    def of(cls, row: Row) -> "Delivery":
        """Read a row."""
        plain = {name: row[name] for name in cls.__dataclass_fields__ if name != "attempts"}
        return cls(**plain, attempts=json.loads(row["attempts"]))


def announce(session: Session, job_id: str, state: JobState) -> None:
    """Add the webhook of a new state, if the caller wants it."""
    rows = session.rows("select key_name, webhook, webhook_events from jobs where id = :id", id=job_id)
    event = f"job.{state.value}"
    if not rows[0]["webhook"] or event not in json.loads(rows[0]["webhook_events"]):
        return
    session.rows(
        "insert into deliveries (id, job_id, key_name, url, event, body, state, created, not_before, attempts)"
        " values (:id, :job_id, :key_name, :url, :event, '', 'waiting', :now, :now, '[]')",
        id=f"msg_{secrets.token_hex(16)}",
        job_id=job_id,
        key_name=rows[0]["key_name"],
        url=_normal(rows[0]["webhook"]),
        event=event,
        now=session.now(),
    )


def _normal(url: str) -> str:
    """Return a URL that begins like all others of its scheme, host and port, however its caller spells them."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return parts._replace(netloc=host + port, path=parts.path or "/").geturl()


def of_job(session: Session, job_id: str) -> list[Delivery]:
    """Return the webhooks of a job, in order."""
    rows = session.rows("select * from deliveries where job_id = :id order by created, id", id=job_id)
    return [Delivery.of(row) for row in rows]


def take(
    session: Session, *, owner: str, lease_s: float, busy_origins: Iterable[str] = (), busy_keys: Iterable[str] = ()
) -> Delivery | None:
    """Claim the next webhook that is due.

    Args:
        owner: a new name for each call, so that a late write of a former owner has no effect.
        busy_origins: origins, such as `https://example.com`, whose webhooks have to wait.
        busy_keys: names of keys whose webhooks have to wait.
    """
    now = session.now()
    origins = {f"origin{number}": f"{origin}/" for number, origin in enumerate(busy_origins)}
    keys = {f"key{number}": key for number, key in enumerate(busy_keys)}
    others = "".join(f" and substr(url, 1, {len(start)}) <> :{name}" for name, start in origins.items())
    others += "".join(f" and key_name <> :{name}" for name in keys)
    rows = session.rows(
        "update deliveries set owner = :owner, lease_until = :until where id = (select id from deliveries"
        " where state = 'waiting' and not_before <= :now and (owner is null or lease_until < :now)"
        f"{others} order by not_before limit 1) returning *",
        **origins,
        **keys,
        owner=owner,
        until=now + lease_s,
        now=now,
    )
    return Delivery.of(rows[0]) if rows else None


def fix_body(session: Session, delivery_id: str, body: str) -> str:
    """Store the body of a webhook before its first attempt; returns the stored body, the same in every attempt."""
    session.rows("update deliveries set body = :body where id = :id and body = ''", id=delivery_id, body=body)
    rows = session.rows("select body from deliveries where id = :id", id=delivery_id)
    return str(rows[0]["body"]) if rows else body


def note(session: Session, delivery: Delivery, attempt: dict[str, Any], *, state: str, wait_s: float = 0.0) -> None:
    """Record an attempt, the new state, and the time of the next attempt; has no effect if the lease was lost."""
    session.rows(
        "update deliveries set state = :state, attempts = :attempts, not_before = :not_before, owner = null"
        " where id = :id and owner = :owner",
        id=delivery.id,
        owner=delivery.owner,
        state=state,
        attempts=json.dumps([*delivery.attempts, attempt][-MAX_ATTEMPTS:]),
        not_before=session.now() + wait_s,
    )
    session.rows("update jobs set version = version + 1 where id = :id", id=delivery.job_id)


def redeliver(session: Session, job_id: str, delivery_id: str) -> Delivery:
    """Make a webhook due now, whatever its state.

    Raises:
        NoSuchJob: the job has no such webhook.
        NotReady: it is being delivered, and the end of that attempt would replace its new state.
    """
    rows = session.rows(
        "update deliveries set state = 'waiting', not_before = :now where id = :id and job_id = :job_id"
        " and (owner is null or lease_until < :now) returning *",
        id=delivery_id,
        job_id=job_id,
        now=session.now(),
    )
    if rows:
        return Delivery.of(rows[0])
    where = f"/v1/jobs/{job_id}/webhooks"
    if session.rows("select 1 from deliveries where id = :id and job_id = :job_id", id=delivery_id, job_id=job_id):
        raise NotReady(f"the webhook {delivery_id} is just being delivered; GET {where} has the outcome")
    raise NoSuchJob(f"the job {job_id} has no webhook {delivery_id[:100]!r}; GET {where} lists them")
