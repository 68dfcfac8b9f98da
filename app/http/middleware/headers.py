"""Default headers of all answers, for browsers and caches."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULTS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",  # browsers must not treat a picture as a web page
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # no scripts, no frames
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # pictures are private, and states change
}
"""Headers of an answer that does not set them itself."""


class SecureHeadersMiddleware:
    """ASGI middleware: adds the default headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in DEFAULTS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
