"""One caller's connection: what uvicorn leaves unbounded of its time and number is bounded here."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, cast

import h11
from fastapi import Response
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from app.errors import BadRequest, TooSlow, Unavailable
from app.http.headers import DEFAULTS
from app.http.problems import answer_to, http_problem
from app.telemetry.record import RequestRecord
from app.telemetry.requests import Observer

LOOK_S = 1.0
"""Time between two looks at a connection, which is how exactly its times are kept."""

LINGER_S = 5.0
"""How long the rest of a request is read and thrown away after its answer: a caller that is still sending would
otherwise find its connection reset, and the answer lost."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What connections may take."""

    most: int
    """Open at a time; one more takes the place of the one that has been quiet longest."""
    head_s: float
    """Seconds for the headers of a request, from the first byte, or from the opening of the connection."""
    send_idle_s: float
    """Seconds for the caller to take anything of an answer that waits for it."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with limits, which are looked at once in a while rather than each with a timer of its own."""

    limits: ClassVar[ConnectionLimits]
    observers: ClassVar[Sequence[Observer]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A caller has connected."""
        super().connection_made(transport)
        now_s = time.monotonic()
        self._quiet_since_s = now_s
        self._head_since_s: float | None = now_s
        self._answered_s: float | None = None
        self._hung_up = False
        self._taken_s = now_s
        self._unsent_bytes = 0
        self._look = self.loop.call_later(LOOK_S, self._look_at_it)
        if len(self.connections) > self.limits.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed to both sides."""
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request have come."""
        if self._hung_up:
            return
        if self._head_since_s is None and self.conn.their_state is h11.IDLE:
            self._head_since_s = time.monotonic()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_since_s = None
        if self.conn.their_state is not h11.SEND_BODY:
            self._answered_s = None

    def on_response_complete(self) -> None:
        """An answer has been written to its end, though perhaps not been sent yet."""
        self._quiet_since_s = time.monotonic()
        if self.conn.their_state is h11.SEND_BODY:
            self._answered_s = self._quiet_since_s
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The caller has taken most of what waited for it."""
        self._taken_s = time.monotonic()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; uvicorn calls it where it has caught the parser's error."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        request = self._unanswered
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        if request is not None and request.response_started:
            self.transport.abort()
        elif status == BadRequest.status:
            self._refuse(answer_to(BadRequest("this is not HTTP/1.1; check the client and what lies between")))
        else:
            self._refuse(http_problem(status, "the request's head cannot be read; send fewer or shorter headers"))

    def _make_room(self) -> None:
        quiet = [other for other in self.connections if isinstance(other, Connection) and other._unanswered is None]
        longest = min(quiet, key=lambda other: other._quiet_since_s)
        if longest is not self:
            longest.transport.abort()
        else:
            text = f"{self.limits.most} connections are open, which is the limit; try again in a second"
            self._refuse(answer_to(Unavailable(text, retry_after_s=1)))

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        latest = cast("RequestResponseCycle | None", self.cycle)  # None before the first one, whatever uvicorn says
        return None if latest is None or latest.response_complete else latest

    def _look_at_it(self) -> None:
        now_s = time.monotonic()
        self._look = self.loop.call_later(LOOK_S, self._look_at_it)
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes or not unsent_bytes:
            self._taken_s = now_s
        self._unsent_bytes = unsent_bytes
        if now_s - self._taken_s > self.limits.send_idle_s:
            self.transport.abort()
        elif self.transport.is_closing():
            pass
        elif self._answered_s is not None and now_s - self._answered_s > LINGER_S:
            self.transport.close()
        elif self._head_since_s is not None and now_s - self._head_since_s > self.limits.head_s:
            self._cut()

    def _cut(self) -> None:
        begun, _ = self.conn.trailing_data
        if begun:
            self._refuse(answer_to(TooSlow(f"the headers did not come within {self.limits.head_s:g} s; send faster")))
        else:
            self.transport.close()

    def _refuse(self, answer: Response) -> None:
        """Answer below the application, which knows nothing of the request, and hang up, though not at once."""
        phrase = HTTPStatus(answer.status_code).phrase
        body = bytes(answer.body)
        kind = json.loads(body)["type"].rpartition(":")[2]
        record = RequestRecord(
            id=uuid.uuid4().hex, answered=answer.status_code, complete=True, problem=kind, sent_bytes=len(body)
        )
        own = {**DEFAULTS, "X-Request-Id": record.id, "Connection": "close"}
        for name, value in own.items():
            answer.headers[name] = value
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        head = [f"HTTP/1.1 {answer.status_code} {phrase}".encode(), *(b"%b: %b" % header for header in headers)]
        self.transport.write(b"\r\n".join([*head, b"", body]))
        self.transport.write_eof()
        self._hung_up = True
        self._head_since_s, self._answered_s = None, time.monotonic()
        self.flow.resume_reading()
        record.ended_s = time.monotonic()
        for observe in self.observers:
            observe(record)


def limited(limits: ConnectionLimits, observers: Sequence[Observer]) -> type[Connection]:
    """The protocol with these limits, for `uvicorn.Config(http=...)`, which wants a class.

    Args:
        observers: get a record of every request that is refused below the application.
    """
    return type("LimitedConnection", (Connection,), {"limits": limits, "observers": observers})
