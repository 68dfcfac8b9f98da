"""Pages of jobs, with a limit on their size."""

from collections.abc import Sequence

from app.jobs.database import Session
from app.jobs.job import JobState, Row, StoredJob
from app.jobs.ledger import with_pictures

PAGE_BYTES = 2**20
"""Approximate maximum size of a page of jobs; a page has at least one job, whatever its size."""

PICTURE_BYTES = 300
"""Approximate size of a picture on a page, without the texts of variable length."""


def page(
    session: Session, key_name: str | None, *, state: JobState | None = None, before: str = "", limit: int = 20
) -> tuple[list[StoredJob], bool]:
    """Return the newest jobs of a key, up to `limit` and `PAGE_BYTES`, and True if there are more.

    Args:
        key_name: None for the jobs of all keys.
        before: id; only older jobs are returned.
    """
    where = "1 = 1"
    if key_name is not None:
        where += " and key_name = :key_name"
    if state is not None:
        where += " and state = :state"
    if before:
        where += " and id < :before"
    rows = session.rows(
        f"select jobs.*, (select sum({PICTURE_BYTES} + length(source) + coalesce(length(problem), 0)"
        " + coalesce(length(result), 0)) from pictures where job_id = jobs.id) as size_bytes"
        f" from jobs where {where} order by id desc limit :limit",
        key_name=key_name,
        state=state and state.value,
        before=before,
        limit=limit + 1,
    )
    fitting = _fitting(rows[:limit])
    return with_pictures(session, fitting), len(fitting) < len(rows)


def _fitting(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the first jobs whose pictures fit on a page."""
    size_bytes = 0
    for count, row in enumerate(rows):
        size_bytes += row["size_bytes"]
        if count and size_bytes > PAGE_BYTES:
            return rows[:count]
    return rows
