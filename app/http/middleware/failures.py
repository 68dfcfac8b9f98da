"""Answer unexpected errors, or reset the connection if the answer has already begun."""

import asyncio
import logging
import math
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import DeadlinePassed, ServiceError, Unavailable
from app.http.problems import internal_error
from app.record import RequestRecord, current_record

log = logging.getLogger(__name__)


class FailureMiddleware:
    """ASGI middleware: an unexpected error gets a fixed answer, and its traceback goes to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        record = current_record()
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:  # the server stops before the answer is complete
            record.problem = record.problem or Unavailable.type
            raise
        except Exception as error:
            if scope["type"] != "http":
                raise
            if record.answered:
                _note_aborted(record, scope, error)  # the connection is reset below
            else:
                log.exception("%s %s failed", record.method, record.path)
                await internal_error()(scope, receive, send)


def _note_aborted(record: RequestRecord, scope: Scope, error: Exception) -> None:
    """Note why an answer that has begun will not be finished."""
    # The framework wraps the error if it is too late to call an error handler.
    reason = error.__cause__ if isinstance(error.__cause__, (ServiceError, ClientDisconnect)) else error
    deadline_s = scope.get("state", {}).get("deadline_s", math.inf)
    if isinstance(reason, ClientDisconnect):
        record.left = True
    elif isinstance(reason, ServiceError):
        record.problem = reason.type
        log.warning("%s %s: the answer was aborted: %s", record.method, record.path, reason.reason)
    elif isinstance(reason, TimeoutError) and time.monotonic() >= deadline_s:
        record.problem = DeadlinePassed.type
        log.warning("%s %s: the answer was aborted: its deadline has passed", record.method, record.path)
    else:
        log.error("%s %s failed, and its answer was aborted", record.method, record.path, exc_info=error)
