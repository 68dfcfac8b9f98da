"""Transactions that add, read, cancel and remove jobs. Each takes the session of its transaction."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from app.access.keys import NO_LIMITS, KeyLimits
from app.errors import IdempotencyMismatch, KeyLimit, NoSuchJob, QueueFull, StorageFull
from app.jobs.database import Session
from app.jobs.job import ENDED, JobState, NewJob, Row, StoredJob, StoredPicture, result_name
from app.jobs.transitions import touch
from app.settings import Settings

FULL_RETRY_S = 30
"""`Retry-After` when too many jobs wait; some have usually ended by then."""

EXPIRED_AT_A_TIME = 100

ROOM_SHARE = 0.01
"""Share of the limit on bytes that must be free for a new job: with less, it would be upscaled only to fail."""


@dataclass(frozen=True, kw_only=True)
class JobLimits:
    """Limits on the jobs of all keys and of one key; pictures that have not ended count as waiting."""

    max_waiting: int
    max_bytes: int
    """Bytes of all files."""
    of_key: KeyLimits = NO_LIMITS

    @classmethod
    def of(cls, settings: Settings, of_key: KeyLimits) -> Self:
        """Take the limits of all keys from the settings."""
        return cls(max_waiting=settings.jobs_waiting, max_bytes=settings.jobs_max_bytes, of_key=of_key)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Totals for metrics."""

    jobs: Mapping[str, int] = field(default_factory=dict)
    """Jobs by state."""
    pictures: Mapping[str, int] = field(default_factory=dict)
    oldest_waiting_s: float = 0.0
    stored_bytes: int = 0
    deliveries: Mapping[str, int] = field(default_factory=dict)
    """Webhook deliveries by state."""


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Work that comes before the end of a job."""

    pictures: int
    """Pictures of other jobs that are before it or run."""
    px: Mapping[str, int]
    """LR px to process until it ends, including its own, by name of the model; empty for the default."""


def add(session: Session, job: NewJob, limits: JobLimits) -> tuple[StoredJob, bool]:
    """Add a job; returns it and True, or the earlier job with the same idempotency key and False.

    Raises:
        IdempotencyMismatch: the earlier job was another request.
        KeyLimit: the key has too many jobs, or they use too much storage.
        QueueFull: too many pictures wait.
        StorageFull: all jobs together use too much storage.
    """
    if earlier := find_repeated(session, job.key_name, job.idempotency_key, job.fingerprint):
        return earlier, False
    _check_limits(session, job, limits)
    session.rows(
        "insert into jobs (id, key_name, idempotency_key, fingerprint, request, state, version, created, webhook,"
        " webhook_events, trace, request_id) values (:id, :key_name, :idempotency_key, :fingerprint, :request, :state,"
        " 1, :created, :webhook, :webhook_events, :trace, :request_id)",
        id=job.id,
        key_name=job.key_name,
        idempotency_key=job.idempotency_key or None,
        fingerprint=job.fingerprint,
        request=json.dumps(job.request),
        state=JobState.WAITING.value,
        created=session.now(),
        webhook=job.webhook,
        webhook_events=json.dumps(list(job.webhook_events)),
        trace=json.dumps(dict(job.trace)),
        request_id=job.request_id,
    )
    for number, picture in enumerate(job.pictures, start=1):
        session.rows(
            "insert into pictures (job_id, number, key_name, state, upload_name, upload_bytes, cost_px, source, target,"
            " model, not_before, attempts, crashes, progress, cancel, result_bytes, file_name) values (:job_id,"
            " :number, :key_name, :state, :upload_name, :upload_bytes, :cost_px, :source, :target, :model, 0, 0, 0,"
            " 0, 0, 0, :file_name)",  # not_before = 0, not now: a clock that is set back reaches now late
            job_id=job.id,
            number=number,
            key_name=job.key_name,
            state=JobState.WAITING.value,
            upload_name=picture.upload_name,
            upload_bytes=picture.upload_bytes,
            cost_px=picture.cost_px,
            source=picture.source,
            target=picture.target,
            model=job.request.get("model") or "",
            file_name=picture.file_name,
        )
    return find(session, job.id), True


def find_repeated(session: Session, key_name: str, idempotency_key: str, fingerprint: str) -> StoredJob | None:
    """Return the job that was accepted with an idempotency key, if any.

    Raises:
        IdempotencyMismatch: the job was another request.
    """
    if not idempotency_key:
        return None
    rows = session.rows(
        "select * from jobs where key_name = :key_name and idempotency_key = :idempotency_key",
        key_name=key_name,
        idempotency_key=idempotency_key,
    )
    if not rows:
        return None
    if rows[0]["fingerprint"] != fingerprint:
        raise IdempotencyMismatch(
            f"Idempotency-Key: {idempotency_key[:100]} was sent with another picture or other parameters, for the job "
            f"{rows[0]['id']}; use a new key for a new job"
        )
    return with_pictures(session, rows)[0]


def _check_limits(session: Session, job: NewJob, limits: JobLimits) -> None:
    unfinished = "state in ('waiting', 'running')"
    new = len(job.pictures)
    new_bytes = sum(picture.upload_bytes for picture in job.pictures)
    waiting = _number(session, f"select count(*) as n from pictures where {unfinished}")
    if waiting + new > limits.max_waiting:
        text = (
            f"{waiting} pictures of jobs wait; the limit is ESRGAN_JOBS_WAITING={limits.max_waiting}; try again later"
        )
        raise QueueFull(text, retry_after_s=FULL_RETRY_S)
    if limits.of_key.jobs is not None:
        waiting = _number(
            session, f"select count(*) as n from pictures where {unfinished} and key_name = :key_name", job.key_name
        )
        if waiting + new > limits.of_key.jobs:
            raise KeyLimit(
                f"{waiting} pictures of the key {job.key_name} wait and this job adds {new}; its limit is "
                f"jobs={limits.of_key.jobs}; wait for some to end",
                retry_after_s=FULL_RETRY_S,
            )
    check_bytes(session, job.key_name, new_bytes, limits, room_bytes=int(limits.max_bytes * ROOM_SHARE))


def check_bytes(session: Session, key_name: str, new_bytes: int, limits: JobLimits, *, room_bytes: int = 0) -> None:
    """Check that the files of a job may hold more bytes.

    Args:
        room_bytes: bytes that must be free for all keys, even if the new ones are fewer.

    Raises:
        KeyLimit: those of the key would hold too many.
        StorageFull: those of all keys would hold too many.
    """
    max_bytes, key_bytes = limits.max_bytes, limits.of_key.job_bytes
    held = "select sum(upload_bytes + result_bytes) as n from pictures"
    needed_bytes = max(new_bytes, room_bytes)
    if (held_bytes := _number(session, held)) + needed_bytes > max_bytes:
        raise StorageFull(
            f"jobs hold {held_bytes} bytes and this one needs {needed_bytes}; the limit is {max_bytes}; delete jobs "
            "that are no longer needed, or try again later"
        )
    if key_bytes is None:
        return
    if (held_bytes := _number(session, f"{held} where key_name = :key_name", key_name)) + new_bytes > key_bytes:
        raise KeyLimit(
            f"jobs of the key {key_name} hold {held_bytes} bytes and this one adds {new_bytes}; its limit is "
            f"job_bytes={key_bytes}; delete jobs that are no longer needed",
            retry_after_s=FULL_RETRY_S,
        )


def _number(session: Session, sql: str, key_name: str = "") -> int:
    return int(session.rows(sql, key_name=key_name)[0]["n"] or 0)


def find(session: Session, job_id: str, key_name: str | None = None) -> StoredJob:
    """Return a job.

    Args:
        key_name: name of the key that the job must belong to; None for any.

    Raises:
        NoSuchJob: there is no such job.
    """
    rows = session.rows("select * from jobs where id = :id", id=job_id)
    if not rows or key_name not in (None, rows[0]["key_name"]):
        raise NoSuchJob(f"there is no job {job_id[:100]!r}; a job is removed ESRGAN_JOB_TTL_S seconds after its end")
    return with_pictures(session, rows)[0]


def version_of(session: Session, job_id: str) -> int | None:
    """Return the number of changes of a job; None if it is gone."""
    rows = session.rows("select version from jobs where id = :id", id=job_id)
    return rows[0]["version"] if rows else None


def with_pictures(session: Session, rows: Sequence[Row]) -> list[StoredJob]:
    """Return the jobs of some rows."""
    pictures: dict[str, list[StoredPicture]] = {row["id"]: [] for row in rows}
    for picture in _of_jobs(session, "select * from pictures where job_id in ({}) order by job_id, number", pictures):
        pictures[picture["job_id"]].append(StoredPicture.of(picture))
    return [StoredJob.of(row, pictures[row["id"]]) for row in rows]


def _of_jobs(session: Session, sql: str, job_ids: Iterable[str]) -> list[Row]:
    """Run a statement for some jobs, whose names replace `{}`."""
    values = {f"id{number}": job_id for number, job_id in enumerate(job_ids)}
    return session.rows(sql.format(", ".join(f":{name}" for name in values)), **values) if values else []


def cancel(session: Session, job: StoredJob, ttl_s: float) -> list[str]:
    """Cancel the pictures of a job that have not ended, and remove its results; an ended job is removed.

    Running pictures are only marked: their worker stops at the next band.

    Returns:
        The names of files that are no longer needed.
    """
    job = find(session, job.id)
    if job.state in ENDED:
        remove(session, [job.id])
        return files_of([job])
    session.rows(
        "update pictures set state = 'cancelled', ended = :now, upload_bytes = 0, result = null, result_bytes = 0"
        " where job_id = :id and state in ('waiting', 'done')",
        id=job.id,
        now=session.now(),
    )
    session.rows("update pictures set cancel = 1 where job_id = :id and state = 'running'", id=job.id)
    touch(session, job.id, ttl_s)
    return files_of([job], but={JobState.RUNNING})


def files_of(jobs: Iterable[StoredJob], *, but: Iterable[JobState] = ()) -> list[str]:
    """Return the names of the files of some jobs, except those of pictures in the states `but`."""
    pictures = [picture for job in jobs for picture in job.pictures if picture.state not in set(but)]
    uploads = [picture.upload_name for picture in pictures if picture.upload_name]
    return uploads + [picture.result.name for picture in pictures if picture.result]


def remove(session: Session, job_ids: Sequence[str]) -> None:
    """Delete the rows of jobs."""
    for table, column in (("deliveries", "job_id"), ("pictures", "job_id"), ("jobs", "id")):
        _of_jobs(session, f"delete from {table} where {column} in ({{}})", job_ids)


def expire(session: Session) -> tuple[int, list[str]]:
    """Remove expired jobs; returns their number and the names of their files."""
    rows = session.rows(
        "select * from jobs where expires < :now order by expires limit :limit",
        now=session.now(),
        limit=EXPIRED_AT_A_TIME,
    )
    jobs = with_pictures(session, rows)
    remove(session, [job.id for job in jobs])
    return len(jobs), files_of(jobs)


def known_files(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Return the names of all files that some jobs need, including results whose end is not recorded yet."""
    columns = "job_id, number, attempts, state, upload_name, upload_bytes, result"
    rows = _of_jobs(session, f"select {columns} from pictures where job_id in ({{}})", job_ids)
    uploads = {row["upload_name"] for row in rows if row["upload_bytes"]}
    results = {json.loads(row["result"])["name"] for row in rows if row["result"]}
    running = [row for row in rows if row["state"] == JobState.RUNNING]
    return uploads | results | {result_name(row["job_id"], row["number"], row["attempts"]) for row in running}


def totals(session: Session) -> Totals:
    """Return the totals for metrics."""
    counts = {
        table: {
            row["state"]: row["n"] for row in session.rows(f"select state, count(*) as n from {table} group by state")
        }
        for table in ("jobs", "pictures", "deliveries")
    }
    rows = session.rows("select min(created) as oldest from jobs where state = 'waiting'")
    oldest = rows[0]["oldest"]
    return Totals(
        jobs=counts["jobs"],
        pictures=counts["pictures"],
        deliveries=counts["deliveries"],
        oldest_waiting_s=0.0 if oldest is None else max(0.0, session.now() - oldest),
        stored_bytes=_number(session, "select sum(upload_bytes + result_bytes) as n from pictures"),
    )


def ahead_of(session: Session, job: StoredJob) -> Ahead:
    """Return the work before the end of a job, assuming that jobs run in order of arrival."""
    rows = session.rows(
        "select model, job_id = :id as own, count(*) as n, sum(cost_px * (1.0 - progress)) as px from pictures"
        " where state in ('waiting', 'running') and (job_id <= :id or state = 'running') group by model, own",
        id=job.id,
    )
    px: dict[str, int] = {}
    for row in rows:
        px[row["model"]] = px.get(row["model"], 0) + int(row["px"])
    return Ahead(pictures=sum(row["n"] for row in rows if not row["own"]), px=px)
