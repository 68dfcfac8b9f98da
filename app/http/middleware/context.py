"""Request ids, and a record for every request."""

import re
import time
import uuid
from collections.abc import Sequence
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.middleware.forwarded import PEER
from app.record import Observer, RequestRecord, begin_record

HEADER = "X-Request-Id"
ACCEPTED_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
MAX_PATH_CHARS = 200
"""Longer paths are cut off in the record."""


class RequestContextMiddleware:
    """ASGI middleware: keeps a record of every request, and passes it to the observers when the request has ended.

    The request id is the one that the caller sent, if it is valid.
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
            await self._app(scope, channels.receive, channels.send)
        finally:
            record.ended_s = time.monotonic()
            record.route = getattr(scope.get("route"), "path", "")
            for observe in self._observers:
                observe(record)


class _MeteredChannels:
    """The ASGI channels `receive` and `send` of a request; they add bytes and time to its record."""

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
        scheme=scope.get("scheme", ""),
        peer=scope.get("state", {}).get(PEER, ""),
        trace_headers={name: headers[name] for name in ("traceparent", "tracestate") if name in headers},
    )
