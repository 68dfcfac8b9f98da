"""Deadlines that callers set with `Prefer: wait=SECONDS` (RFC 7240), over all the work for a request."""

import asyncio
import time
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DeadlinePassed
from app.http.fields import parameter, split
from app.http.problems import answer_to

SLACK_S = 0.1
"""The scheduler keeps the same deadline and knows how far it has come, so it is given the time to say so."""


class Deadlines:
    """ASGI middleware: ends requests that take longer than their callers wait.

    Handlers find the time on the clock of `time.monotonic` as `request.state.deadline_s`.

    Args:
        default_s: for callers that prefer nothing.
        most_s: the longest wait that is granted.
        below: path of the requests that have deadlines.
    """

    def __init__(self, app: ASGIApp, *, default_s: float, most_s: int, below: str) -> None:
        self._app = app
        self._default_s = default_s
        self._most_s = most_s
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not scope["path"].startswith(self._below):
            await self._app(scope, receive, send)
            return
        preferred_s = preferred_wait_s(Headers(scope=scope).getlist("prefer"))
        wait_s = self._default_s if preferred_s is None else min(preferred_s, self._most_s)
        scope.setdefault("state", {})["deadline_s"] = time.monotonic() + wait_s
        answering = False

        async def send_applied(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                if preferred_s is not None:
                    MutableHeaders(scope=message)["Preference-Applied"] = f"wait={wait_s}"
            elif not message.get("more_body", False) and not limit.expired():
                limit.reschedule(None)  # all is made; how slowly its caller may take it is the connection's matter
            await send(message)

        limit = asyncio.timeout(wait_s + SLACK_S)
        try:
            async with limit:
                await self._app(scope, receive, send_applied)
        except TimeoutError:
            if not limit.expired() or answering:
                raise  # another's; or the connection breaks, which is all that the caller can still be told
            late = DeadlinePassed(f"the answer was not ready within {wait_s:g} s; allow more, or try again later")
            await answer_to(late)(scope, receive, send_applied)


def preferred_wait_s(fields: Iterable[str]) -> int | None:
    """The seconds of the first preference `wait` in all `Prefer` fields, if there is one and it is a whole number."""
    for field in fields:
        for preference in split(field, ","):
            name, value = parameter(next(split(preference, ";")))
            if name == "wait":
                return int(value) if value.isdecimal() and value.isascii() and len(value) < 10 else None
    return None
