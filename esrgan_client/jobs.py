"""Jobs, and the events that report them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from esrgan_client.problems import Problem, of_document

State = Literal["waiting", "running", "done", "failed", "cancelled"]

PAGE_JOBS = 100
"""Jobs on a page of a list: the maximum of the service."""

Progress = Callable[[float], None]
"""Receives the progress of a job, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as described by the service."""

    id: str
    state: State
    progress: float
    """Share that is done, from 0 to 1."""
    problem: Problem | None
    """Reason of the failure, if it failed."""
    document: Mapping[str, Any]
    """The whole description by the service; see docs/jobs.md."""

    @property
    def ended(self) -> bool:
        """True once the job has ended, in any way."""
        return self.state not in ("waiting", "running")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read a job from its JSON."""
        problem = document["problem"]
        return cls(
            id=document["id"],
            state=cast(State, document["state"]),
            progress=document["progress"],
            problem=of_document(problem) if problem else None,
            document=document,
        )


class Events:
    """Server-sent events of a job, line by line.

    Args:
        on_progress: called with each new progress.
    """

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress = on_progress or (lambda _: None)
        self._event = ""

    def line(self, line: str) -> bool:
        """Process the next line; returns True once the job has ended."""
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._event = value
        elif field == "data":
            data = json.loads(value)
            self._on_progress(data["progress"])
            return self._event == "state" and Job.of(data).ended
        return False


def result_path(job: str, number: int | None) -> str:
    """Return the path of the result of a job, or of one of its pictures."""
    return f"/v1/jobs/{job}/result" if number is None else f"/v1/jobs/{job}/results/{number}"


def first_page(state: State | None) -> Mapping[str, str]:
    """Return the query for the first page of a list of jobs, in a state or in any."""
    return {"limit": str(PAGE_JOBS)} | ({"state": state} if state else {})


def next_page(query: Mapping[str, str], page: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the query for the page after this one; None after the last one."""
    return {**query, "before": page["jobs"][-1]["id"]} if page["next"] else None
