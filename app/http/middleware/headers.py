"""Headers that tell browsers and caches what not to do with any answer."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULTS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",  # a picture is never taken for a page
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # nor does a page do anything
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # pictures are somebody's; states are of the moment
}
"""What an answer gets that does not say otherwise itself."""


class SecureHeaders:
    """ASGI middleware: adds the defaults to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in DEFAULTS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
