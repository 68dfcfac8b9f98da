"""What is known of one request, filled by whoever handles it: the source of its log line, metrics and trace."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

StageName = Literal["read", "decode", "queue", "infer", "encode", "send"]
STAGES: tuple[StageName, ...] = ("read", "decode", "queue", "infer", "encode", "send")
"""In the order of a picture's way; in a streamed answer the last three overlap."""

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*", re.ASCII)

CLIENT_CLOSED_REQUEST = 499
"""Nobody reads this status; it is what logs call a caller that left."""


@dataclass(kw_only=True)
class Stage:
    """One part of a request's way. It may pause in between: `seconds` is what it took of the time that it spans."""

    began_s: float
    ended_s: float
    seconds: float


@dataclass(kw_only=True)
class RequestRecord:
    """One request from its first header to the last byte of its answer. All times are those of `time.monotonic`."""

    id: str = "-"
    method: str = "-"
    path: str = "-"
    """As it was asked for, percent-encoded."""
    client: str = ""
    """Address of the other end of the connection: the caller, or the last proxy in front."""
    route: str = ""
    """The path of the endpoint, or nothing where there is none: few values, whatever callers ask for."""
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    """`traceparent` and `tracestate` as they came (W3C Trace Context)."""
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None

    key: str = ""
    """Name of the caller's API key."""
    model: str = ""
    """Name of the model, once it is known to exist."""
    width_px: int = 0
    """Of the upload as the network sees it: upright."""
    height_px: int = 0
    runs: int = 1
    """How often the picture goes through the network: more than once as an ensemble."""
    received_bytes: int = 0
    """Of the request's body."""
    sent_bytes: int = 0
    """Of the answer's body."""
    stages: dict[StageName, Stage] = field(default_factory=dict)

    answered: int = 0
    """Status of the answer; 0 before it begins."""
    complete: bool = False
    """Whether the answer was given to its end."""
    left: bool = False
    """Whether the caller closed the connection before that."""
    problem: str = ""
    """Last part of the problem type, where the answer is a problem."""

    @property
    def status(self) -> int:
        """Status of the answer; 499 where the caller did not wait for it."""
        return CLIENT_CLOSED_REQUEST if self.left else self.answered

    @property
    def cost_px(self) -> int:
        """LR px of the upload, as often as they go through the network."""
        return self.width_px * self.height_px * self.runs

    @property
    def outcome(self) -> str:
        """In one word: `done`, `left`, `broken` (the answer began and did not end), or the problem's type."""
        if self.status == CLIENT_CLOSED_REQUEST:
            return "left"
        if self.problem:
            return self.problem
        return "done" if self.complete else "broken"

    @property
    def trace_id(self) -> str:
        """The caller's trace, or nothing."""
        found = TRACEPARENT.fullmatch(self.trace_headers.get("traceparent", ""))
        return found[1] if found else ""

    @property
    def seconds(self) -> float:
        """How long it has taken, or took."""
        return (time.monotonic() if self.ended_s is None else self.ended_s) - self.began_s

    def add_stage(self, stage: StageName, seconds: float, *, began_s: float | None = None) -> None:
        """A stage, or a part of it, took so long.

        Args:
            began_s: when; if absent, it has just ended.
        """
        began_s = time.monotonic() - seconds if began_s is None else began_s
        known = self.stages.setdefault(stage, Stage(began_s=began_s, ended_s=began_s, seconds=0.0))
        known.began_s = min(known.began_s, began_s)
        known.ended_s = max(known.ended_s, began_s + seconds)
        known.seconds += seconds

    @contextmanager
    def stage(self, stage: StageName) -> Iterator[None]:
        """Measure a stage, or a part of it, however it ends."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.add_stage(stage, time.monotonic() - began_s, began_s=began_s)


Observer = Callable[[RequestRecord], None]
"""Receives the record of every request once the request has ended."""

_current: ContextVar[RequestRecord | None] = ContextVar("request", default=None)


def current_record() -> RequestRecord:
    """The record of the request that this task works for; outside of requests one that nobody reads."""
    return _current.get() or RequestRecord()


def begin_record(record: RequestRecord) -> None:
    """From here on, this task and those that it starts work for this request."""
    _current.set(record)
