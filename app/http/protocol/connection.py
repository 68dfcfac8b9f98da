"""A connection with limits that uvicorn lacks, and with the time at which an answer has really been sent."""

import asyncio
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, cast

import h11
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from app.errors import BadRequest, HeadTooLarge, ServiceError, TooSlow, Unavailable, UnsupportedTransfer
from app.http.middleware.headers import DEFAULTS
from app.http.problems import answer_to
from app.http.protocol.target import in_origin_form
from app.http.protocol.wire import Wire
from app.record import Observer, RequestRecord

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLL_S = 1.0
"""Interval at which a connection's limits are checked, which is their precision."""

READ_BYTES = 16 * 1024
"""Maximum bytes of a request that are read and parsed at a time.

A chunk of one byte takes the parser as long as a large one, and the event loop is blocked until all bytes are parsed.
The 256 kB that asyncio reads by default may contain 40,000 such chunks, which take seconds.
"""

MIN_SEND_BYTES_PER_S = 8192
"""Minimum average rate at which a caller must receive an answer, enforced after `send_idle_s`."""

CLOSE = (b"connection", b"close")

PARSER_ERRORS: Mapping[int, ServiceError] = {
    400: BadRequest("this is not HTTP/1.1; check the client and any proxy in between"),
    431: HeadTooLarge("the request's head is too large; send fewer or shorter headers"),
    501: UnsupportedTransfer(
        "the request's Transfer-Encoding is not supported; send the body chunked, or with a Content-Length"
    ),
}
"""Errors by the status that the parser suggests."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Limits of connections."""

    max_open: int
    """Maximum open connections; a further one closes the one that has been idle longest."""
    head_s: float
    """Seconds for the headers of a request, from the first byte or from the opening of the connection."""
    send_idle_s: float
    """Maximum seconds in which the caller receives no byte of an answer that waits to be sent."""


class SendProgress:
    """Progress of an answer to a slow caller, from the first byte that had to wait."""

    def __init__(self, taken_bytes: int) -> None:
        self._began_s = self._moved_s = time.monotonic()
        self._first_bytes = self._taken_bytes = taken_bytes

    def update(self, taken_bytes: int) -> None:
        """Note the bytes that the caller has received so far."""
        if taken_bytes > self._taken_bytes:
            self._moved_s, self._taken_bytes = time.monotonic(), taken_bytes

    def is_stuck(self, idle_s: float) -> bool:
        """Return True if the caller receives nothing, or too little on average."""
        now_s = time.monotonic()
        allowed_s = idle_s + (self._taken_bytes - self._first_bytes) / MIN_SEND_BYTES_PER_S
        return now_s - self._moved_s > idle_s or now_s - self._began_s > allowed_s


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with limits, which one timer per connection checks every `POLL_S`."""

    limits: ClassVar[ConnectionLimits]
    observers: ClassVar[Sequence[Observer]]
    transport: Wire

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Set up a new connection."""
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # an attribute of asyncio's own transports
        transport.set_write_buffer_limits(high=0)  # `resume_writing` then means that the kernel has everything
        self.transport = Wire(transport, lambda: self.conn.their_state is h11.SEND_BODY)
        self._app = cast("ASGIApp", self.app)
        self.app = self._answer
        now_s = time.monotonic()
        self._idle_since_s = now_s
        self._head_since_s: float | None = now_s
        self._sending: SendProgress | None = None
        self._kernel_is_full = False
        self._timer = self.loop.call_later(POLL_S, self._poll)
        open_connections = [it for it in cast("set[Connection]", self.connections) if not it.transport.is_gone]
        if len(open_connections) > self.limits.max_open:
            self._make_room(open_connections)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after both sides are closed."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes of a request, or drop them if the connection only lingers."""
        if self.transport.linger is not None:
            self.transport.linger.drop(len(data))
            return
        if self._head_since_s is None and self.conn.their_state is h11.IDLE:
            self._head_since_s = time.monotonic()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_since_s = None

    def on_response_complete(self) -> None:
        """Note that an answer has been written completely, though perhaps not sent yet."""
        self._idle_since_s = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that the kernel's buffer is full."""
        self._kernel_is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the kernel has taken everything that was written."""
        self._kernel_is_full = False
        self.transport.drained()
        super().resume_writing()

    def shutdown(self) -> None:
        """Close after the current answer; called when the server stops."""
        if not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP; uvicorn calls this after an error of the parser."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        request = self._unanswered
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        if request is not None and request.response_started:
            self.transport.reset()
        elif request is not None:
            self._refuse(BadRequest("the chunks of the body are malformed; check the client"))
        else:
            self._refuse(PARSER_ERRORS.get(status, PARSER_ERRORS[400]))

    async def _answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Run the application for one request; its resources are released when the answer has been sent."""
        request = self.cycle

        async def send_through(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if self.conn.their_state is h11.SEND_BODY and CLOSE not in headers:
                    message["headers"] = [*headers, CLOSE]  # the rest of the body is not worth parsing
                if _ends_by_closing(scope, message):
                    self.transport.reset_until_closed()
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self._sent(request)

        try:
            await self._app(in_origin_form(scope), receive, send_through)
        except asyncio.CancelledError:  # the server stops; if re-raised, uvicorn would log it as an application error
            request.disconnected = True
            self.transport.reset()
        else:
            if request.response_started and not request.response_complete and not request.disconnected:
                request.disconnected = True
                self.transport.reset()

    async def _sent(self, request: RequestResponseCycle) -> None:
        """Wait until the kernel has the whole answer.

        Raises:
            ClientDisconnect: the caller has left before that.
        """
        if request.response_complete:
            await self.flow.drain()
        if self._kernel_is_full or not request.response_complete:
            raise ClientDisconnect

    @property
    def _is_idle(self) -> bool:
        return self._unanswered is None and not self._kernel_is_full

    def _make_room(self, open_connections: "Sequence[Connection]") -> None:
        oldest = min((it for it in open_connections if it._is_idle), key=lambda other: other._idle_since_s)
        if oldest is not self:
            oldest.transport.abort()
        else:
            text = f"{self.limits.max_open} connections are open, which is the limit; try again in a second"
            self._refuse(Unavailable(text, retry_after_s=1))

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        latest = cast("RequestResponseCycle | None", self.cycle)  # None before the first one, unlike uvicorn's type
        return None if latest is None or latest.response_complete else latest

    def _poll(self) -> None:
        self._timer = self.loop.call_later(POLL_S, self._poll)
        if self._is_stuck():
            self.transport.reset()
        elif self.transport.linger is not None:
            if self.transport.linger.is_over:
                self.transport.finish()
        elif self.transport.is_closing():
            pass
        elif self._unanswered is not None and self.flow.read_paused and self.transport.caller_has_left:
            self.transport.abort()
        elif self._head_since_s is not None and time.monotonic() - self._head_since_s > self.limits.head_s:
            self._time_out_head()

    def _is_stuck(self) -> bool:
        taken_bytes = self.transport.taken_bytes
        if taken_bytes == self.transport.written_bytes:
            self._sending = None
            return False
        if self._sending is None:
            self._sending = SendProgress(taken_bytes)
        self._sending.update(taken_bytes)
        return self._sending.is_stuck(self.limits.send_idle_s)

    def _time_out_head(self) -> None:
        received, _ = self.conn.trailing_data
        if received:
            text = f"the headers did not arrive within {self.limits.head_s:g} s; send faster"
            self._refuse(TooSlow(text))
        else:
            self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        """Send an answer without the application, pass a record to the observers, and close after a linger."""
        answer = answer_to(error)
        phrase = HTTPStatus(answer.status_code).phrase
        body = bytes(answer.body)
        record = RequestRecord(
            id=uuid.uuid4().hex,
            client=(self.client or ("",))[0],
            answered=answer.status_code,
            complete=True,
            problem=error.type,
            sent_bytes=len(body),
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


def _ends_by_closing(scope: "Scope", start: "Message") -> bool:
    """Return True if the end of the connection ends the answer: HTTP/1.0 without a length."""
    return scope["http_version"] == "1.0" and b"content-length" not in {name for name, _ in start["headers"]}


def limited(limits: ConnectionLimits, observers: Sequence[Observer]) -> type[Connection]:
    """Make a protocol class with these limits, for `uvicorn.Config(http=...)`, which takes a class.

    Args:
        observers: receive a record of every request that is refused before it reaches the application.
    """
    return type("LimitedConnection", (Connection,), {"limits": limits, "observers": observers})
