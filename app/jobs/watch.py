"""Progress of running jobs, newer than in the database, and events that wake watchers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.jobs.job import StoredJob


class Watch:
    """Progress of the pictures of this process, and events that wake watchers. Belongs to the event loop."""

    def __init__(self) -> None:
        self._progress: dict[tuple[str, int], float] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False
        """True once the service stops: watchers end."""

    def publish(self, job_id: str, number: int, progress: float) -> None:
        """Note the progress of a picture that runs in this process."""
        self._progress[job_id, number] = progress
        self.wake(job_id)

    def forget(self, job_id: str, number: int) -> None:
        """Forget a picture that no longer runs in this process."""
        self._progress.pop((job_id, number), None)
        self.wake(job_id)

    def wake(self, job_id: str) -> None:
        """Wake all tasks that wait for changes of a job."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    def close(self) -> None:
        """Wake all watchers for the last time."""
        self.closed = True
        for job_id in self._waiting:
            self.wake(job_id)

    @contextmanager
    def changes(self, job_id: str) -> Iterator[asyncio.Event]:
        """Provide an event that is set by each change of a job in this process."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def refreshed(self, job: StoredJob) -> StoredJob:
        """Return a job with the progress known to this process, which is newer than the stored one."""
        pictures = [
            replace(picture, progress=self._progress.get((job.id, picture.number), picture.progress))
            for picture in job.pictures
        ]
        return replace(job, pictures=pictures)

    def progress_of(self, job_id: str, number: int) -> float:
        """Return the progress of a picture that runs in this process."""
        return self._progress.get((job_id, number), 0.0)
