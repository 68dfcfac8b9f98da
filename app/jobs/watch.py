"""Progress of running jobs, which this process knows before the database does, and wake-ups for watchers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.jobs.job import StoredJob


class Watch:
    """Progress of the pictures that run here, and events for those who wait for changes. Belongs to the event loop."""

    def __init__(self) -> None:
        self._progress: dict[tuple[str, int], float] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False
        """Set when the service stops, so that watchers end."""

    def publish(self, job_id: str, number: int, progress: float) -> None:
        """Note the progress of a picture that runs here."""
        self._progress[job_id, number] = progress
        self.wake(job_id)

    def forget(self, job_id: str, number: int) -> None:
        """Note that a picture does not run here any more."""
        self._progress.pop((job_id, number), None)
        self.wake(job_id)

    def wake(self, job_id: str) -> None:
        """Wake all who wait for changes of a job."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    def close(self) -> None:
        """Wake everybody, for the last time."""
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
        """Return a job with the progress that is known here, which is newer than the stored one."""
        pictures = [
            replace(picture, progress=self._progress.get((job.id, picture.number), picture.progress))
            for picture in job.pictures
        ]
        return replace(job, pictures=pictures)

    def progress_of(self, job_id: str, number: int) -> float:
        """Return the progress of a picture that runs here."""
        return self._progress.get((job_id, number), 0.0)
