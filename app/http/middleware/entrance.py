"""Who is let in, before a byte of a body is read: nobody while the service loads or stops, else so many at a time."""

import math

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadRequest, QueueFull, ServiceError
from app.http.problems import answer_to, http_problem
from app.lifecycle import Lifecycle

WORK = "/v1/"
"""Below this path lies what needs the networks; probes and documentation lie elsewhere and are always answered."""

MOST_HEAD_BYTES = 16 * 1024
"""Of the path and all headers; the parser itself bounds only what comes in several parts."""

SHARE = 0.75
"""Of the connections that requests may take: the rest is for probes, and for those who are to hear that it is full."""


class Entrance:
    """ASGI middleware: refuses work that is not welcome, and counts what was let in until it is answered to the end."""

    def __init__(self, app: ASGIApp, life: Lifecycle) -> None:
        self._app = app
        self._life = life
        self._most = int(life.settings.max_connections * SHARE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refusal := _refusal_of_head(scope)) is not None:
            await refusal(scope, receive, send)
            return
        if not scope["path"].startswith(WORK):
            await self._app(scope, receive, send)
            return
        try:
            self._check()
        except ServiceError as error:
            await answer_to(error)(scope, receive, send)
            return
        with self._life.accept():
            await self._app(scope, receive, send)

    def _check(self) -> None:
        self._life.check_ready()
        if self._life.accepted >= self._most:
            wait_s = max(1, math.ceil((self._life.service.scheduler.backlog_s or 0.0) / self._most))
            raise QueueFull(
                f"{self._most} requests are being answered, which is the limit; try again in {wait_s} s",
                retry_after_s=wait_s,
            )


def _refusal_of_head(scope: Scope) -> Response | None:
    headers = scope["headers"]
    size_bytes = (
        len(scope["query_string"]) + len(scope["path"]) + sum(len(name) + len(value) for name, value in headers)
    )
    if size_bytes > MOST_HEAD_BYTES:
        return http_problem(431, f"the head of the request has {size_bytes} bytes; the limit is {MOST_HEAD_BYTES}")
    if {b"transfer-encoding", b"content-length"} <= {
        name for name, _ in headers
    }:  # two proxies may read it in two ways
        text = "the request has both Content-Length and Transfer-Encoding; send one of them"
        return answer_to(BadRequest(text, headers={"Connection": "close"}))  # what follows may be another's request
    return None
