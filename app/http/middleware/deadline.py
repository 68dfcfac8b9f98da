"""Deadlines of requests, which callers set with `Prefer: wait=SECONDS` (RFC 7240)."""

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DeadlinePassed
from app.http.fields import preferences, whole_number
from app.http.problems import answer_to

SLACK_S = 0.1
"""Extra time for the scheduler, which has the same deadline and reports the progress in its error."""


class DeadlineMiddleware:
    """ASGI middleware: cancels requests that exceed the time that their callers wait.

    Handlers find the deadline in `request.state.deadline_s`, on the clock of `time.monotonic`. Those that send a stored
    result, or events, call `request.state.lift_deadline()`.

    Args:
        default_s: seconds for callers without a preference.
        max_s: maximum seconds.
        below: path prefix of requests with a deadline.
    """

    def __init__(self, app: ASGIApp, *, default_s: float, max_s: int, below: str) -> None:
        self._app = app
        self._default_s = default_s
        self._max_s = max_s
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not scope["path"].startswith(self._below):
            await self._app(scope, receive, send)
            return
        preferred_s = whole_number(preferences(Headers(scope=scope)).get("wait", ""))
        wait_s = self._default_s if preferred_s is None else min(preferred_s, self._max_s)
        limit = asyncio.timeout(wait_s + SLACK_S)
        state = scope.setdefault("state", {})
        state["deadline_s"] = time.monotonic() + wait_s
        state["lift_deadline"] = lambda: limit.reschedule(None)
        answering = False

        async def send_applied(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                if preferred_s is not None and limit.when() is not None:  # else it was lifted
                    headers = MutableHeaders(scope=message)
                    applied = filter(None, [headers.get("Preference-Applied"), f"wait={wait_s}"])
                    headers["Preference-Applied"] = ", ".join(applied)
            elif not message.get("more_body", False) and not limit.expired():
                limit.reschedule(None)  # the work is done; the connection limits how slowly a caller may read
            await send(message)

        try:
            async with limit:
                await self._app(scope, receive, send_applied)
        except TimeoutError:
            if not limit.expired() or answering:
                raise  # another timeout; or the answer has begun, so the connection is reset
            late = DeadlinePassed(f"the answer was not ready within {wait_s:g} s; allow more, or try again later")
            await answer_to(late)(scope, receive, send_applied)
