"""Request ids, a record for every request, and an answer for every failure."""

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
MOST_PATH = 200
"""Characters of a path that are kept."""

log = logging.getLogger(__name__)


class RequestContext:
    """ASGI middleware: keeps a record of every request and hands it to the observers when the request has ended.

    The id is the caller's own if it is a sane one. What no handler foresaw is answered with a fixed text, and the log
    gets the traceback.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer] = ()) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _new_record(scope)
        begin_record(record)
        wires = _Wires(record, receive, send)
        try:
            await self._answer(record, scope, wires)
        finally:
            record.ended_s = time.monotonic()
            record.route = getattr(scope.get("route"), "path", "")
            for observe in self._observers:
                observe(record)

    async def _answer(self, record: RequestRecord, scope: Scope, wires: "_Wires") -> None:
        try:
            await self._app(scope, wires.receive, wires.send)
        except asyncio.CancelledError:  # the server ends before the answer does
            record.problem = record.problem or Unavailable.type
            raise
        except Exception as error:
            if record.answered:
                _note_cut_off(record, scope, error)  # the server resets the connection
            else:
                log.exception("%s %s failed", record.method, record.path)
                await internal_error()(scope, wires.receive, wires.send)


def _note_cut_off(record: RequestRecord, scope: Scope, error: Exception) -> None:
    """Note why an answer that had begun will not be finished."""
    # The framework wraps errors that it has a handler for, when it is too late to call that.
    reason = error.__cause__ if isinstance(error.__cause__, (ServiceError, ClientDisconnect)) else error
    deadline_s = scope.get("state", {}).get("deadline_s", math.inf)
    if isinstance(reason, ClientDisconnect):
        record.left = True
    elif isinstance(reason, ServiceError):
        record.problem = reason.type
        log.warning("%s %s: the answer was cut off: %s", record.method, record.path, reason.detail)
    elif isinstance(reason, TimeoutError) and time.monotonic() >= deadline_s:
        record.problem = DeadlinePassed.type
        log.warning("%s %s: the answer was cut off: its deadline has passed", record.method, record.path)
    else:
        log.error("%s %s failed, and its answer was cut off", record.method, record.path, exc_info=error)


class _Wires:
    """The two ways between server and application, measured."""

    def __init__(self, record: RequestRecord, receive: Receive, send: Send) -> None:
        self._record = record
        self._receive = receive
        self._send = send
        self._reading = True

    async def receive(self) -> Message:
        """The next part of the request's body; after its end, word that the caller has left."""
        began_s = time.monotonic()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._record.left = not self._record.complete
        elif self._reading:
            self._record.took("read", time.monotonic() - began_s, began_s=began_s)
            self._record.received_bytes += len(message.get("body", b""))
            self._reading = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Head or a part of the body of the answer."""
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
        path=quote(scope["path"])[:MOST_PATH],
        client=(scope.get("client") or ("",))[0],
        trace_headers={name: headers[name] for name in ("traceparent", "tracestate") if name in headers},
    )
