"""Request ids, and a log that carries them."""

import logging
import re
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import internal_error

HEADER = "X-Request-Id"
ACCEPTED_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)

request_id: ContextVar[str] = ContextVar("request_id", default="-")

log = logging.getLogger(__name__)


class RequestContext:
    """ASGI middleware: an id for every request, and an answer for every failure.

    The id is the caller's own if it is a sane one. What no handler foresaw is answered with a fixed text, and the log
    gets the traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "")
        identity = sent if ACCEPTED_ID.fullmatch(sent) else uuid.uuid4().hex
        request_id.set(identity)
        answering = False

        async def send_with_id(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answering:
                raise  # the connection breaks, which is all that the caller can still be told
            await internal_error()(scope, receive, send_with_id)


def log_config(level: str = "INFO") -> dict[str, object]:
    """Configuration of `logging` for the service and its server: one line a record, with the request id."""
    handler = {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": _WithRequestId}},
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"}},
        "handlers": {"stderr": handler},
        "root": {"level": level, "handlers": ["stderr"]},
    }


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True
