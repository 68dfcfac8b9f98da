"""Who is let in: while the service loads or stops, work is refused before a byte of it is read."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Unavailable
from app.http.problems import answer_to
from app.lifecycle import Lifecycle

WORK = "/v1/"
"""Below this path lies what needs the networks; probes and documentation lie elsewhere and are always answered."""


class Entrance:
    """ASGI middleware: refuses work that is not welcome, and counts what was let in until it is answered to the end."""

    def __init__(self, app: ASGIApp, life: Lifecycle) -> None:
        self._app = app
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not scope["path"].startswith(WORK):
            await self._app(scope, receive, send)
            return
        try:
            self._life.check_ready()
        except Unavailable as error:
            await answer_to(error)(scope, receive, send)
            return
        with self._life.accept():
            await self._app(scope, receive, send)
