"""The record of one request, filled while it is handled: the source of its log line, metrics and trace."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

StageName = Literal["read", "decode", "queue", "infer", "encode", "send"]
STAGES: tuple[StageName, ...] = ("read", "decode", "queue", "infer", "encode", "send")
"""Stages in order; in a streamed answer the last three overlap."""

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*", re.ASCII)

JOB_ROUTE = "job"
"""Route in the record of the work on a picture of a job, which is no request."""

CLIENT_CLOSED_REQUEST = 499
"""Status in logs for a caller that left; it is never sent."""


@dataclass(kw_only=True)
class Stage:
    """One stage of a request. It may pause in between, so `seconds` can be less than the span from begin to end."""

    began_s: float
    ended_s: float
    seconds: float


@dataclass(kw_only=True)
class RequestRecord:
    """One request from its first header to the last byte of its answer. Times are those of `time.monotonic`."""

    id: str = "-"
    method: str = "-"
    path: str = "-"
    """Requested path, percent-encoded."""
    client: str = ""
    """Address of the caller, or of the last proxy unless it is trusted."""
    peer: str = ""
    """Address of the last proxy, where it is trusted."""
    scheme: str = ""
    """`http` or `https`, as the caller used it where a trusted proxy says so."""
    route: str = ""
    """Path of the endpoint, empty if there is none: few values, whatever paths are requested."""
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    """`traceparent` and `tracestate` as received (W3C Trace Context)."""
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None

    job: str = ""
    """Id of the job that the request has made, or that the record is about."""
    accepted_px: int = 0
    """LR px of the pictures that were accepted as a job; for the work on one of them, its own."""
    is_chargeable: bool = False
    """True for the work that ended a picture of a job: its LR px count, less those that counted at its acceptance."""
    key: str = ""
    """Name of the caller's API key."""
    model: str = ""
    """Name of the model, once it is known to exist."""
    width_px: int = 0
    """Width of the upright upload."""
    height_px: int = 0
    network_passes: int = 1
    """Work of the network, in passes over the upload: 8 for an ensemble, 17 if a x4 model reads its own result."""
    received_bytes: int = 0
    """Bytes of the request's body."""
    sent_bytes: int = 0
    """Bytes of the answer's body."""
    stages: dict[StageName, Stage] = field(default_factory=dict)

    answered: int = 0
    """Status of the answer; 0 before it starts."""
    complete: bool = False
    """True once the answer is complete."""
    left: bool = False
    """True if the caller disconnected before that."""
    problem: str = ""
    """Last part of the problem type, where the answer is a problem document."""

    @property
    def status(self) -> int:
        """Status of the answer; 499 where the caller did not wait for it."""
        return CLIENT_CLOSED_REQUEST if self.left else self.answered

    @property
    def cost_px(self) -> int:
        """LR px of the upload times the passes through the network."""
        return self.width_px * self.height_px * self.network_passes

    @property
    def outcome(self) -> str:
        """`done`, `left`, `broken` (the answer started and did not finish), or the last part of the problem type."""
        if self.status == CLIENT_CLOSED_REQUEST:
            return "left"
        if self.problem:
            return self.problem
        return "done" if self.complete else "broken"

    @property
    def trace_id(self) -> str:
        """Id of the caller's trace, or empty."""
        found = TRACEPARENT.fullmatch(self.trace_headers.get("traceparent", ""))
        return found[1] if found else ""

    @property
    def seconds(self) -> float:
        """Duration so far, or in total."""
        return (time.monotonic() if self.ended_s is None else self.ended_s) - self.began_s

    def add_stage(self, stage: StageName, seconds: float, *, began_s: float | None = None) -> None:
        """Add time to a stage.

        Args:
            began_s: start; by default the stage has just ended.
        """
        began_s = time.monotonic() - seconds if began_s is None else began_s
        known = self.stages.setdefault(stage, Stage(began_s=began_s, ended_s=began_s, seconds=0.0))
        known.began_s = min(known.began_s, began_s)
        known.ended_s = max(known.ended_s, began_s + seconds)
        known.seconds += seconds

    @contextmanager
    def stage(self, stage: StageName) -> Iterator[None]:
        """Measure a stage, or a part of it, within the block."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.add_stage(stage, time.monotonic() - began_s, began_s=began_s)


Observer = Callable[[RequestRecord], None]
"""Receives the record of every request once the request has ended."""

_current: ContextVar[RequestRecord | None] = ContextVar("request", default=None)


def current_record() -> RequestRecord:
    """Return the record of the request that this task works for; outside a request, a throw-away record."""
    return _current.get() or RequestRecord()


def begin_record(record: RequestRecord) -> None:
    """Make this task, and tasks that it starts, work for this request."""
    _current.set(record)
