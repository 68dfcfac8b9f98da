"""Admission of requests, before a byte of the body is read: by the service's phase, the head and the number running."""

import math
from contextlib import nullcontext

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BadRequest, HeadTooLarge, QueueFull, ServiceError
from app.http.problems import answer_to
from app.lifecycle import Lifecycle, Phase

API_PREFIX = "/v1/"
"""Path prefix of the requests that need networks; probes and documentation are outside it and always answered."""

MAX_HEAD_BYTES = 16 * 1024
"""Maximum bytes of path, query and headers; the parser limits only heads that arrive in several parts."""

REQUEST_SHARE = 0.75
"""Share of the connections available to requests; the rest serves health probes and 429 responses."""


STOPPING = frozenset({Phase.LEAVING, Phase.DRAINING})
"""Phases in which answers close their connections, so that clients with open ones move to another replica."""


class EntranceMiddleware:
    """ASGI middleware: refuses requests that cannot be served now, and counts the others until they end."""

    def __init__(self, app: ASGIApp, life: Lifecycle) -> None:
        self._app = app
        self._life = life
        self._max_requests = int(life.settings.max_connections * REQUEST_SHARE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        needs_networks = scope["path"].startswith(API_PREFIX)
        if needs_networks and self._life.phase in STOPPING:
            send = _closing(send)
        try:
            _check_head(scope)
            if needs_networks:
                self._check_room()
        except ServiceError as error:
            await answer_to(error)(scope, receive, send)
            return
        with self._life.accept() if needs_networks else nullcontext():
            await self._app(scope, receive, send)

    def _check_room(self) -> None:
        self._life.check_accepting()
        if self._life.accepted >= self._max_requests:
            wait_s = max(1, math.ceil((self._life.service.scheduler.backlog_s or 0.0) / self._max_requests))
            raise QueueFull(
                f"{self._max_requests} requests are running, which is the limit; try again in {wait_s} s",
                retry_after_s=wait_s,
            )


def _closing(send: Send) -> Send:
    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
        await send(message)

    return send_and_close


def _check_head(scope: Scope) -> None:
    headers = scope["headers"]
    size_bytes = (
        len(scope["query_string"]) + len(scope["path"]) + sum(len(name) + len(value) for name, value in headers)
    )
    if size_bytes > MAX_HEAD_BYTES:
        raise HeadTooLarge(f"the head of the request has {size_bytes} bytes; the limit is {MAX_HEAD_BYTES}")
    # Request smuggling: proxies may disagree on which one counts, and parse the rest of the body as another request.
    if {b"transfer-encoding", b"content-length"} <= {name for name, _ in headers}:
        text = "the request has both Content-Length and Transfer-Encoding; send one of them"
        raise BadRequest(text, headers={"Connection": "close"})
