"""A job as its caller sees it: the body of answers, events and webhooks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, Field

from app.errors import problem_type
from app.jobs.job import ENDED, JobState, Problem, Result, StoredJob, StoredPicture
from app.text import without_query


class ResultView(BaseModel):
    """A file that can be fetched."""

    href: str
    bytes: int | None = Field(description="Null where the file is made while it is sent.")
    media_type: str
    etag: str | None
    model: str | None
    shown: int | None = Field(description="Number of pictures in the upload that the file shows; null for a zip file.")
    frames: int | None = Field(description="Pictures in the upload: more than 1 for an animation, or several pages.")

    @classmethod
    def of(cls, result: Result, href: str) -> Self:
        """Describe the file of one picture."""
        shown, frames = result.shown_of_frames
        return cls(
            href=href,
            bytes=result.size_bytes,
            media_type=result.media_type,
            etag=result.etag,
            model=result.model,
            shown=shown,
            frames=frames,
        )


class ProblemView(BaseModel):
    """An error as in a problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Describe a stored problem."""
        return cls(type=problem_type(problem.type), title=problem.title, status=problem.status, detail=problem.detail)


class PictureView(BaseModel):
    """One picture of a job."""

    number: int
    state: JobState
    progress: float
    source: str | None
    started: datetime | None
    ended: datetime | None
    attempts: int = Field(description="How often the work on it was begun.")
    result: ResultView | None
    problem: ProblemView | None


class QueueView(BaseModel):
    """The place of a job in the queue."""

    position: int = Field(description="Pictures of other jobs that are before it or run.")
    predicted_end: datetime | None = Field(description="Null while the speed is unknown.")


class JobView(BaseModel):
    """A job."""

    id: str
    state: JobState
    progress: float = Field(ge=0, le=1)
    created: datetime
    ended: datetime | None
    expires: datetime | None = Field(description="When the job and its results are removed.")
    queue: QueueView | None = Field(
        default=None, description="Null for a job that has ended, in lists and in webhooks."
    )
    result: ResultView | None = Field(
        description="The picture; of several pictures, a zip file of those that are done."
    )
    problem: ProblemView | None = Field(description="Of the first picture that failed.")
    pictures: Sequence[PictureView]

    @classmethod
    def of(cls, job: StoredJob, prefix: str = "") -> Self:
        """Describe a job.

        Args:
            prefix: of the addresses, where a proxy shows the service below a path.
        """
        href = f"{prefix}/v1/jobs/{job.id}"
        pictures = [_picture(picture, href) for picture in job.pictures]
        problem = next((picture.problem for picture in pictures if picture.problem), None)
        return cls(
            id=job.id,
            state=job.state,
            progress=round(job.progress, 4),
            created=moment(job.created),
            ended=moment_or_none(job.ended),
            expires=moment_or_none(job.expires),
            result=_result(job, f"{href}/result"),
            problem=problem,
            pictures=pictures,
        )


def moment(seconds: float) -> datetime:
    """Return the time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """Return the time in UTC, if there is one."""
    return None if seconds is None else moment(seconds)


def _picture(picture: StoredPicture, href: str) -> PictureView:
    result = picture.result and ResultView.of(picture.result, f"{href}/results/{picture.number}")
    return PictureView(
        number=picture.number,
        state=picture.state,
        progress=round(picture.progress, 4),
        source=without_query(picture.source) or None,
        started=moment_or_none(picture.started),
        ended=moment_or_none(picture.ended),
        attempts=picture.attempts,
        result=result,
        problem=picture.problem and ProblemView.of(picture.problem),
    )


def _result(job: StoredJob, href: str) -> ResultView | None:
    results = [picture.result for picture in job.pictures if picture.result]
    if job.state not in ENDED or not results:
        return None
    if len(job.pictures) == 1:
        return ResultView.of(results[0], href)
    return ResultView(
        href=href, bytes=None, media_type="application/zip", etag=None, model=None, shown=None, frames=None
    )
