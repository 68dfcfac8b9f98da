"""Derive the state of a job from those of its pictures, and add the webhooks of its changes."""

from app.jobs.database import Session
from app.jobs.job import ENDED, JobState
from app.jobs.outbox import announce


def touch(session: Session, job_id: str, ttl_s: float) -> None:
    """Update the state of a job after a change of a picture; a new state adds its webhook.

    Args:
        ttl_s: time that a job is kept after its end.
    """
    counted = session.rows("select state, count(*) as n from pictures where job_id = :id group by state", id=job_id)
    rows = session.rows("select state from jobs where id = :id", id=job_id)
    if not rows:
        return
    state = combined({JobState(row["state"]) for row in counted})
    session.rows("update jobs set version = version + 1, state = :state where id = :id", id=job_id, state=state.value)
    if state is JobState(rows[0]["state"]):
        return
    if state in ENDED:
        now = session.now()
        session.rows(
            "update jobs set ended = :now, expires = :expires where id = :id", id=job_id, now=now, expires=now + ttl_s
        )
    announce(session, job_id, state)


def combined(states: set[JobState]) -> JobState:
    """Return the state of a job whose pictures are in these states."""
    if states == {JobState.WAITING}:
        return JobState.WAITING
    if not states <= ENDED:
        return JobState.RUNNING
    if JobState.CANCELLED in states:
        return JobState.CANCELLED
    return JobState.FAILED if JobState.FAILED in states else JobState.DONE
