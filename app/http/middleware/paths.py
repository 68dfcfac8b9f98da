"""Paths below a proxy's prefix, and HEAD answered like GET without the body."""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.middleware.forwarded import FORWARDED_PREFIX
from app.waiting import done_before

PREFIX = "prefix"

OF_GET_ALONE = (b"range", b"if-range")
"""Headers of range requests, to be ignored with any other method (RFC 9110, 14.2)."""


class PrefixMiddleware:
    """ASGI middleware: serves below a prefix, whether the proxy in front removes it or passes it on.

    Args:
        prefix: such as `/pictures`; empty for none. Overridden by the prefix that a trusted proxy names.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            state = scope.get("state", {})
            prefix = state.get(FORWARDED_PREFIX) or self._prefix
            path = scope["path"]
            if prefix and path.startswith(f"{prefix}/"):
                path = path.removeprefix(prefix)
            scope = {**scope, "path": path, "state": {**state, PREFIX: prefix}}
        await self._app(scope, receive, send)


def prefix_of(request: Request) -> str:
    """Return the prefix of all paths of the service, as the caller sees it."""
    prefix: str = getattr(request.state, PREFIX, "")
    return prefix


class HeadMiddleware:
    """ASGI middleware: answers HEAD like GET without the body, and cancels the work when a long body begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        has_body = asyncio.Event()

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body" and message.get("more_body", False):
                has_body.set()
                await asyncio.Event().wait()  # until cancelled below
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["method"] = "GET"  # in place, because the router stores the route in this scope for the log
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in OF_GET_ALONE]
        try:
            work = await done_before(has_body.wait(), self._app(scope, receive, send_without_body))
            if work is None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                work.result()
        finally:
            scope["method"] = "HEAD"
