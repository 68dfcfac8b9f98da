"""A job and its pictures as they are stored. Imports no I/O."""

import enum
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from app.errors import ServiceError


class JobState(enum.StrEnum):
    """State of a job or of one of its pictures."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})

MAX_CRASHES = 2
"""Number of process deaths after which a picture fails instead of being retried."""

Row = Mapping[str, Any]
Part = TypeVar("Part", "Problem", "Result")


def new_job_id() -> str:
    """Return an id that sorts by time and cannot be guessed: 48 bits of milliseconds and 80 random bits."""
    return f"job_{time.time_ns() // 10**6:012x}{secrets.token_hex(10)}"


def result_name(job_id: str, number: int, attempts: int) -> str:
    """Return the name of a result in the store; each attempt has a different one."""
    return f"{job_id}/result-{number}-{attempts}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error as stored in a job, with the members of a problem document."""

    status: int
    type: str
    title: str
    detail: str

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Return the problem for an error."""
        return cls(status=error.status, type=error.type, title=error.title, detail=error.detail)

    def to_json(self) -> str:
        """Return the problem as JSON text."""
        return json.dumps(self.__dict__)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The file of an upscaled picture."""

    name: str
    """Name in the store."""
    size_bytes: int
    etag: str
    """ETag with its quotes, as in the synchronous answer."""
    media_type: str
    model: str
    """Version of the model, as in `X-Model`."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Headers of the synchronous answer; see `app.answer.Answer.notes`."""
    file_name: str = ""
    """Name for saving the result; empty if the upload has no name."""

    @property
    def suffix(self) -> str:
        """Suffix of the file name, such as `.png`."""
        return "." + self.media_type.rpartition("/")[2]

    @property
    def shown_of_frames(self) -> tuple[int, int]:
        """Number of pictures of the upload that the file shows, and that the upload has, as in `X-Frames`."""
        shown, _, frames = self.notes.get("X-Frames", "1 of 1").partition(" of ")
        return int(shown), int(frames)


@dataclass(frozen=True, kw_only=True)
class NewPicture:
    """A picture of a job that is being accepted: an upload in the store, or a URL to read it from."""

    upload_name: str = ""
    upload_bytes: int = 0
    cost_px: int = 0
    """LR px; 0 if only the URL is known."""
    source: str = ""
    target: str = ""
    """URL to send the result to; empty for none."""
    file_name: str = ""
    """File name of the upload, as the caller wrote it; empty if it has none."""


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job that is being accepted."""

    id: str
    key_name: str
    request: Mapping[str, Any]
    """`app.upscaling.UpscaleRequest` as JSON."""
    pictures: Sequence[NewPicture]
    idempotency_key: str = ""
    fingerprint: str = ""
    """Hash of the whole request; compared if the idempotency key was used before."""
    webhook: str = ""
    webhook_events: Sequence[str] = ()
    trace: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


def _read(kind: type[Part], text: str) -> Part:
    """Read JSON text, ignoring members that a newer version of the service may have added."""
    values = json.loads(text)
    return kind(**{name: value for name, value in values.items() if name in kind.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """One picture of a job."""

    job_id: str
    number: int
    """Number within the job, from 1."""
    state: JobState
    progress: float
    upload_name: str
    upload_bytes: int
    cost_px: int
    source: str
    target: str
    file_name: str
    started: float | None
    ended: float | None
    attempts: int
    crashes: int
    problem: Problem | None
    result: Result | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a row."""
        problem = _read(Problem, row["problem"]) if row["problem"] else None
        result = _read(Result, row["result"]) if row["result"] else None
        plain = {name: row[name] for name in cls.__dataclass_fields__ if name not in {"state", "problem", "result"}}
        return cls(**plain, state=JobState(row["state"]), problem=problem, result=result)


@dataclass(frozen=True, kw_only=True)
class StoredJob:
    """A job with its pictures."""

    id: str
    key_name: str
    state: JobState
    version: int
    """Number of changes of the job."""
    created: float
    ended: float | None
    expires: float | None
    request: Mapping[str, Any]
    trace: Mapping[str, str]
    request_id: str
    pictures: Sequence[StoredPicture]

    @classmethod
    def of(cls, row: Row, pictures: Sequence[StoredPicture]) -> Self:
        """Read a row."""
        texts = {"request", "trace"}
        plain = {name: row[name] for name in cls.__dataclass_fields__ if name not in {"state", "pictures", *texts}}
        parsed = {name: json.loads(row[name]) for name in texts}
        return cls(**plain, **parsed, state=JobState(row["state"]), pictures=pictures)

    @property
    def progress(self) -> float:
        """Share of the job that is done, from 0 to 1."""
        return sum(picture.progress for picture in self.pictures) / len(self.pictures)
