"""Paths below a proxy's prefix, and HEAD answered like GET without the body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PrefixMiddleware:
    """ASGI middleware: serves below a prefix, whether the proxy in front removes it or passes it on.

    Args:
        prefix: such as `/pictures`; empty for none.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if self._prefix and scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._prefix)}
        await self._app(scope, receive, send)


class HeadMiddleware:
    """ASGI middleware: answers HEAD like GET, with the same headers and no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["method"] = "GET"  # in the same scope, because the router stores the route there for the log
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"
