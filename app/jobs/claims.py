"""Transactions of workers: claim a picture, renew its lease, end it or give it back.

A picture is `running` while its owner renews its lease. If the owner dies, the lease expires and another process claims
the picture. Late writes of a former owner have no effect, because every statement names owner and attempt.
"""

import enum
import json
from dataclasses import dataclass

from app.errors import KeyLimit, StorageFull
from app.jobs.database import Session
from app.jobs.job import ENDED, MAX_CRASHES, JobState, Problem, Result, Row, StoredJob, StoredPicture, result_name
from app.jobs.ledger import JobLimits, check_bytes
from app.jobs.transitions import touch

GAVE_UP = Problem(
    status=422,
    type="job-gave-up",
    title="The picture was given up",
    detail="the service ended twice while it worked on this picture, so it is not tried again; send another one, and "
    "tell the operator",
)

OWNED = "job_id = :job_id and number = :number and owner = :owner and attempts = :attempts and state = 'running'"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A picture that this process works on."""

    job: StoredJob
    """With this picture alone: the others of its job may be a thousand."""
    picture: StoredPicture
    owner: str

    @property
    def is_suspect(self) -> bool:
        """True if an earlier process died while it worked on the picture."""
        return self.picture.crashes > 0

    @property
    def uses_urls(self) -> bool:
        """True if the work includes reading from or writing to a URL, whose host may be slow."""
        return bool(self.picture.source or self.picture.target)

    @property
    def result_name(self) -> str:
        """Name of the result in the store."""
        return result_name(self.job.id, self.picture.number, self.picture.attempts)

    @property
    def values(self) -> dict[str, object]:
        """Values of `OWNED`."""
        picture = self.picture
        return {
            "job_id": picture.job_id,
            "number": picture.number,
            "owner": self.owner,
            "attempts": picture.attempts,
        }


class Hold(enum.Enum):
    """State of a claim after its renewal."""

    KEPT = "kept"
    CANCELLED = "cancelled"
    LOST = "lost"


def recover(session: Session, ttl_s: float, *, owner: str = "") -> list[StoredPicture]:
    """Put pictures of dead owners back in the queue, or fail them after `MAX_CRASHES` deaths; returns them.

    Args:
        owner: the calling process, which is alive even if it was too busy to renew its leases.
    """
    lost = session.rows(
        "update pictures set state = 'waiting', owner = null, progress = 0, result_bytes = 0, crashes = crashes + 1"
        " where state = 'running' and lease_until < :now and owner <> :owner returning *",
        now=session.now(),
        owner=owner,
    )
    for row in lost:
        _end_if_over(session, row)
        touch(session, row["job_id"], ttl_s)
    return [StoredPicture.of(row) for row in lost]


def claim(
    session: Session, *, owner: str, lease_s: float, ttl_s: float, idle: bool, uploads_only: bool = False
) -> Claim | None:
    """Claim the next picture: the oldest waiting one of the key with the fewest running pictures.

    A picture whose owner died may have caused that death. It is claimed before all others, but only by an idle process:
    it runs alone, so that a second death cannot be blamed on others.

    Args:
        idle: True if this process works on no other picture.
        uploads_only: True if pictures with URLs have to wait.
    """
    now = session.now()
    waits = "state = 'waiting' and not_before <= :now" + " and source = '' and target = ''" * uploads_only
    if suspect := bool(session.rows(f"select 1 from pictures where {waits} and crashes > 0 limit 1", now=now)):
        if not idle:
            return None
        waits += " and crashes > 0"
    keys = session.rows(
        "select p.key_name, min(p.job_id) as first, (select count(*) from pictures r where r.state = 'running'"
        f" and r.key_name = p.key_name) as running from pictures p where {waits}"
        " group by p.key_name order by running, first limit 1",
        now=now,
    )
    if not keys:
        return None
    rows = session.rows(
        "update pictures set state = 'running', owner = :owner, lease_until = :until, attempts = attempts + 1,"
        " started = coalesce(started, :now) where (job_id, number) = (select job_id, number from pictures"
        f" where {waits} and key_name = :key_name order by job_id, number limit 1) returning *",
        now=now,
        owner=owner,
        until=now + lease_s,
        key_name=keys[0]["key_name"],
    )
    picture = StoredPicture.of(rows[0])
    assert suspect == (picture.crashes > 0)
    touch(session, picture.job_id, ttl_s)
    job = session.rows("select * from jobs where id = :id", id=picture.job_id)[0]
    return Claim(job=StoredJob.of(job, [picture]), picture=picture, owner=owner)


def renew(session: Session, claim: Claim, *, lease_s: float, progress: float) -> Hold:
    """Renew the lease of a picture, and store its progress."""
    rows = session.rows(
        f"update pictures set lease_until = :until, progress = :progress where {OWNED} returning cancel",
        until=session.now() + lease_s,
        progress=progress,
        **claim.values,
    )
    if not rows:
        return Hold.LOST
    session.rows("update jobs set version = version + 1 where id = :id", id=claim.job.id)
    return Hold.CANCELLED if rows[0]["cancel"] else Hold.KEPT


def reserve(session: Session, claim: Claim, size_bytes: int, limits: JobLimits) -> KeyLimit | StorageFull | None:
    """Count the bytes of a result, in place of its upload; returns an error if there is no room for them.

    The error is not raised, because callers repeat a transaction that raises. Counted before the result is sent and its
    picture ends, so that the limits hold however many end at once.
    """
    rows = session.rows(f"select upload_bytes, result_bytes from pictures where {OWNED}", **claim.values)
    if not rows:
        return None
    needed_bytes = max(0, size_bytes - rows[0]["upload_bytes"])
    if (new_bytes := needed_bytes - rows[0]["result_bytes"]) > 0:
        try:
            check_bytes(session, claim.job.key_name, new_bytes, limits)
        except (KeyLimit, StorageFull) as error:
            return error
    session.rows(
        f"update pictures set result_bytes = :needed_bytes where {OWNED}", needed_bytes=needed_bytes, **claim.values
    )
    return None


def end(
    session: Session,
    claim: Claim,
    state: JobState,
    *,
    ttl_s: float,
    result: Result | None = None,
    problem: Problem | None = None,
) -> JobState | None:
    """End a picture; returns its final state: `cancelled` if its job was cancelled, None if the lease was lost.

    Safe to repeat after an error that may have come after the commit.
    """
    rows = session.rows(f"select * from pictures where {OWNED}", **claim.values)
    if not rows:
        return _earlier_end(session, claim)
    if rows[0]["cancel"]:
        state, result, problem = JobState.CANCELLED, None, None
    _record_end(session, rows[0], state, result=result, problem=problem)
    touch(session, claim.job.id, ttl_s)
    return state


def release(session: Session, claim: Claim, *, wait_s: float, ttl_s: float, crashed: bool = False) -> bool:
    """Put a picture back in the queue, to be claimed after `wait_s`; returns False if the lease was lost.

    Args:
        crashed: True if the device was lost while it ran, which counts as a death of the process; see `recover`.
    """
    rows = session.rows(
        "update pictures set state = 'waiting', owner = null, progress = 0, result_bytes = 0, not_before = :not_before,"
        f" crashes = crashes + :crashes where {OWNED} returning *",
        not_before=session.now() + wait_s,
        crashes=int(crashed),
        **claim.values,
    )
    for row in rows:
        _end_if_over(session, row)
    touch(session, claim.job.id, ttl_s)
    return bool(rows)


def _earlier_end(session: Session, claim: Claim) -> JobState | None:
    rows = session.rows(
        "select state from pictures where job_id = :job_id and number = :number and attempts = :attempts",
        **claim.values,
    )
    return next((JobState(row["state"]) for row in rows if row["state"] in ENDED), None)


def _end_if_over(session: Session, picture: Row) -> None:
    """End a picture that is back in the queue, if its job was cancelled or its workers died too often."""
    if picture["cancel"]:
        _record_end(session, picture, JobState.CANCELLED)
    elif picture["crashes"] >= MAX_CRASHES:
        _record_end(session, picture, JobState.FAILED, problem=GAVE_UP)


def _record_end(
    session: Session, picture: Row, state: JobState, *, result: Result | None = None, problem: Problem | None = None
) -> None:
    session.rows(
        "update pictures set state = :state, ended = :now, owner = null, progress = :progress, upload_bytes = 0,"
        " problem = :problem, result = :result, result_bytes = :result_bytes where job_id = :job_id and"
        " number = :number",
        job_id=picture["job_id"],
        number=picture["number"],
        state=state.value,
        now=session.now(),
        progress=float(state is JobState.DONE),
        problem=problem and problem.to_json(),
        result=json.dumps(result.__dict__) if result else None,
        result_bytes=result.size_bytes if result else 0,
    )
