"""Request ids, a record for every request, and an answer for every unexpected error."""

import asyncio
import logging
import math
import re
import time
import uuid
from collections.abc import Sequence
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DeadlinePassed, ServiceError, Unavailable
from app.http.problems import internal_error
from app.record import Observer, RequestRecord, begin_record

HEADER = "X-Request-Id"
ACCEPTED_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
MAX_PATH_CHARS = 200
"""Longer paths are cut off in the record."""

log = logging.getLogger(__name__)


class RequestContextMiddleware:
    """ASGI middleware: keeps a record of every request and gives it to the observers when the request has ended.

    The request id is the caller's own if it is valid. An unexpected error gets a fixed answer, and its traceback goes
    to the log.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer] = ()) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _new_record(scope)
        begin_record(record)
        channels = _MeteredChannels(record, receive, send)
        try:
            await self._answer(record, scope, channels)
        finally:
            record.ended_s = time.monotonic()
            record.route = getattr(scope.get("route"), "path", "")
            for observe in self._observers:
                observe(record)

    async def _answer(self, record: RequestRecord, scope: Scope, channels: "_MeteredChannels") -> None:
        try:
            await self._app(scope, channels.receive, channels.send)
        except asyncio.CancelledError:  # the server stops before the answer is complete
            record.problem = record.problem or Unavailable.type
            raise
        except Exception as error:
            if record.answered:
                _note_aborted(record, scope, error)  # the connection is reset below
            else:
                log.exception("%s %s failed", record.method, record.path)
                await internal_error()(scope, channels.receive, channels.send)


def _note_aborted(record: RequestRecord, scope: Scope, error: Exception) -> None:
    """Note why an answer that has started will not be finished."""
    # When it is too late to call an error handler, the framework wraps the error.
    reason = error.__cause__ if isinstance(error.__cause__, (ServiceError, ClientDisconnect)) else error
    deadline_s = scope.get("state", {}).get("deadline_s", math.inf)
    if isinstance(reason, ClientDisconnect):
        record.left = True
    elif isinstance(reason, ServiceError):
        record.problem = reason.type
        log.warning("%s %s: the answer was aborted: %s", record.method, record.path, reason.detail)
    elif isinstance(reason, TimeoutError) and time.monotonic() >= deadline_s:
        record.problem = DeadlinePassed.type
        log.warning("%s %s: the answer was aborted: its deadline has passed", record.method, record.path)
    else:
        log.error("%s %s failed, and its answer was aborted", record.method, record.path, exc_info=error)


class _MeteredChannels:
    """The ASGI channels `receive` and `send` of a request; they count bytes and time into its record."""

    def __init__(self, record: RequestRecord, receive: Receive, send: Send) -> None:
        self._record = record
        self._receive = receive
        self._send = send
        self._reading = True

    async def receive(self) -> Message:
        """Receive the next part of the body; after its end, wait for the caller to disconnect."""
        began_s = time.monotonic()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._record.left = not self._record.complete
        elif self._reading:
            self._record.add_stage("read", time.monotonic() - began_s, began_s=began_s)
            self._record.received_bytes += len(message.get("body", b""))
            self._reading = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send the head, or a part of the body."""
        record = self._record
        if message["type"] == "http.response.start":
            record.answered = message["status"]
            MutableHeaders(scope=message)[HEADER] = record.id
            await self._send(message)
            return
        with record.stage("send"):
            await self._send(message)
        record.sent_bytes += len(message.get("body", b""))
        record.complete = not message.get("more_body", False)


def _new_record(scope: Scope) -> RequestRecord:
    headers = Headers(scope=scope)
    sent = headers.get(HEADER, "")
    return RequestRecord(
        id=sent if ACCEPTED_ID.fullmatch(sent) else uuid.uuid4().hex,
        method=scope["method"],
        path=quote(scope["path"])[:MAX_PATH_CHARS],
        client=(scope.get("client") or ("",))[0],
        trace_headers={name: headers[name] for name in ("traceparent", "tracestate") if name in headers},
    )
