"""One caller's connection: bounds the time and number that uvicorn leaves open, and knows when an answer is sent."""

import asyncio
import contextvars
import json
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, cast

import h11
from fastapi import Response
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from app.errors import BadRequest, TooSlow, Unavailable
from app.http.middleware.headers import DEFAULTS
from app.http.problems import answer_to, http_problem
from app.http.protocol.target import in_origin_form
from app.http.protocol.wire import Linger, Wire
from app.record import Observer, RequestRecord

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOK_S = 1.0
"""Time between two looks at a connection, which is how exactly its times are kept."""

READ_BYTES = 16 * 1024
"""Most bytes of a request that are read and parsed at a time.

A chunk of one byte takes the parser as long as a large one, and nobody else is served before all that was read is
parsed: the 256 kB that asyncio reads otherwise may hold 40,000 of them, which take seconds.
"""

LEAST_SEND_BYTES_PER_S = 8192
"""Least rate at which an answer is taken, on average, once it has been waiting for `send_idle_s`."""

PARSER_FAULTS = {
    431: "the request's head is too large; send fewer or shorter headers",
    501: "the request's Transfer-Encoding is not supported; send the body chunked, or with a Content-Length",
}


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The limits of connections."""

    most: int
    """Open at a time; one more takes the place of the one that has been quiet longest."""
    head_s: float
    """Seconds for the headers of a request, from the first byte, or from the opening of the connection."""
    send_idle_s: float
    """Seconds for the caller to take anything of an answer that waits for it."""


class Sending:
    """The progress of an answer that its caller takes slowly, from the first byte that had to wait."""

    def __init__(self, taken_bytes: int) -> None:
        self._began_s = self._moved_s = time.monotonic()
        self._first_bytes = self._taken_bytes = taken_bytes

    def look(self, taken_bytes: int) -> None:
        """Note what the caller has taken so far."""
        if taken_bytes > self._taken_bytes:
            self._moved_s, self._taken_bytes = time.monotonic(), taken_bytes

    def is_stuck(self, idle_s: float) -> bool:
        """True where the caller takes nothing, or too little on average."""
        now_s = time.monotonic()
        enough_s = idle_s + (self._taken_bytes - self._first_bytes) / LEAST_SEND_BYTES_PER_S
        return now_s - self._moved_s > idle_s or now_s - self._began_s > enough_s


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with limits, which are looked at once in a while rather than each with a timer of its own."""

    limits: ClassVar[ConnectionLimits]
    observers: ClassVar[Sequence[Observer]]
    transport: Wire

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin with a caller."""
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's own transports
        transport.set_write_buffer_limits(high=0)  # so "resume" means that the kernel has all of it
        self.transport = Wire(transport, lambda: self.conn.their_state is h11.SEND_BODY)
        self._app = cast("ASGIApp", self.app)
        self.app = self._answer
        now_s = time.monotonic()
        self._quiet_since_s = now_s
        self._head_since_s: float | None = now_s
        self._rest: Linger | None = None
        self._sending: Sending | None = None
        self._kernel_is_full = False
        self._look = self.loop.call_later(LOOK_S, self._look_at_it)
        open_ones = [it for it in cast("set[Connection]", self.connections) if not it.transport.is_gone]
        if len(open_ones) > self.limits.most:
            self._make_room(open_ones)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed to both sides."""
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read bytes of a request."""
        if (rest := self.transport.linger or self._rest) is not None:
            rest.drop(len(data))
        if self.transport.linger is not None:
            return
        if self._head_since_s is None and self.conn.their_state is h11.IDLE:
            self._head_since_s = time.monotonic()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_since_s = None
        if self.conn.their_state is not h11.SEND_BODY:
            self._rest = None

    def on_response_complete(self) -> None:
        """Note that an answer has been written to its end, though perhaps not been sent yet."""
        self._quiet_since_s = time.monotonic()
        if self.conn.their_state is h11.SEND_BODY:
            self._rest = Linger()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that the kernel takes no more for now."""
        self._kernel_is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the kernel has taken all that was written."""
        self._kernel_is_full = False
        super().resume_writing()

    def shutdown(self) -> None:
        """Close after the current answer; called when the server ends."""
        if not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; uvicorn calls it where it has caught the parser's error."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        request = self._unanswered
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        if request is not None and request.response_started:
            self.transport.reset()
        elif request is not None:
            self._refuse(lambda: answer_to(BadRequest("the chunks of the body are malformed; check the client")))
        elif (fault := PARSER_FAULTS.get(status)) is not None:
            self._refuse(lambda: http_problem(status, fault))
        else:
            text = "this is not HTTP/1.1; check the client and what lies between"
            self._refuse(lambda: answer_to(BadRequest(text)))

    async def _answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Run the application for one request, which keeps all that it holds until its answer has been sent."""
        request = self.cycle

        async def send_through(message: "Message") -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self._sent(request)

        try:
            await self._app(in_origin_form(scope), receive, send_through)
        except asyncio.CancelledError:  # the server ends; raised, uvicorn would log it as a failure of the application
            request.disconnected = True
            self.transport.reset()
        else:
            if request.response_started and not request.response_complete and not request.disconnected:
                request.disconnected = True
                self.transport.reset()

    async def _sent(self, request: RequestResponseCycle) -> None:
        """Wait until the kernel has all of the answer.

        Raises:
            ClientDisconnect: the caller left before.
        """
        if request.response_complete:
            await self.flow.drain()
        if self._kernel_is_full or not request.response_complete:
            raise ClientDisconnect

    @property
    def _is_quiet(self) -> bool:
        return self._unanswered is None and not self._kernel_is_full

    def _make_room(self, open_ones: "Sequence[Connection]") -> None:
        longest = min((it for it in open_ones if it._is_quiet), key=lambda other: other._quiet_since_s)
        if longest is not self:
            longest.transport.abort()
        else:
            text = f"{self.limits.most} connections are open, which is the limit; try again in a second"
            self._refuse(lambda: answer_to(Unavailable(text, retry_after_s=1)))

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        latest = cast("RequestResponseCycle | None", self.cycle)  # None before the first one, whatever uvicorn says
        return None if latest is None or latest.response_complete else latest

    def _look_at_it(self) -> None:
        self._look = self.loop.call_later(LOOK_S, self._look_at_it)
        rest = self.transport.linger or self._rest
        if self._is_stuck():
            self.transport.reset()
        elif rest is not None:
            if rest.over:
                self.transport.finish()
        elif self.transport.is_closing():
            pass
        elif self._head_since_s is not None and time.monotonic() - self._head_since_s > self.limits.head_s:
            self._cut()

    def _is_stuck(self) -> bool:
        taken_bytes = self.transport.taken_bytes
        if taken_bytes == self.transport.written_bytes:
            self._sending = None
            return False
        if self._sending is None:
            self._sending = Sending(taken_bytes)
        self._sending.look(taken_bytes)
        return self._sending.is_stuck(self.limits.send_idle_s)

    def _cut(self) -> None:
        begun, _ = self.conn.trailing_data
        if begun:
            text = f"the headers did not come within {self.limits.head_s:g} s; send faster"
            self._refuse(lambda: answer_to(TooSlow(text)))
        else:
            self.transport.close()

    def _refuse(self, problem: Callable[[], Response]) -> None:
        """Answer below the application, which knows nothing of the request, and hang up, though not at once.

        Args:
            problem: makes the answer; called in a context of its own, so that no other request's record is touched.
        """
        answer = contextvars.Context().run(problem)
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
        self.transport.close_our_side()
        self._head_since_s = None
        record.ended_s = time.monotonic()
        for observe in self.observers:
            observe(record)


def limited(limits: ConnectionLimits, observers: Sequence[Observer]) -> type[Connection]:
    """Make the protocol with these limits, for `uvicorn.Config(http=...)`, which wants a class.

    Args:
        observers: get a record of every request that is refused below the application.
    """
    return type("LimitedConnection", (Connection,), {"limits": limits, "observers": observers})
