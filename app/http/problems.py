"""Errors as problem documents (RFC 9457): one format for all error answers."""

import difflib
import itertools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.errors import Internal, ServiceError, Unprocessable, problem_type
from app.record import CLIENT_CLOSED_REQUEST, current_record
from app.text import encodable, without_query

MEDIA_TYPE = "application/problem+json"
MAX_REPORTED_ERRORS = 5
"""Maximum number of invalid parameters that a response lists."""

LOG_INTERVAL_S = 60.0
"""Minimum interval between two lines in the log for one kind of error whose reason the answer hides."""

log = logging.getLogger(__name__)


class ProblemResponse(JSONResponse):
    """A problem document. Its kind is noted in the request's record when it is sent.

    Args:
        kind: last part of the problem type.
        members: further members of the document.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        body = {"type": problem_type(kind), "title": title, "status": status, "detail": encodable(detail)}
        super().__init__(body | dict(members or {}), status_code=status, headers=headers)
        self.kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the document."""
        current_record().problem = self.kind
        await super().__call__(scope, receive, send)


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the service and of the framework with a problem document."""
    app.add_exception_handler(ServiceError, _ServiceErrors())
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _caller_left)


def internal_error() -> ProblemResponse:
    """Make the response to an unexpected error, with a fixed text."""
    detail = "the service failed on this request; its operator finds the reason in the log under the X-Request-Id"
    return answer_to(Internal(detail))


def answer_to(error: ServiceError) -> ProblemResponse:
    """Make the problem document for an error."""
    retry = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    headers = {**error.headers, **retry}
    return ProblemResponse(error.status, error.type, error.title, error.detail, headers, error.members)


class _ServiceErrors:
    """Answers errors of the service; logs reasons that the answers hide, but not for each request of an outage."""

    def __init__(self) -> None:
        self._logged_s: dict[type[ServiceError], float] = {}

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        if error.reason != error.detail and self._is_due(type(error)):
            log.warning("%s %s: %s", request.method, request.scope["path"], error.reason)
        return answer_to(error)

    def _is_due(self, kind: type[ServiceError]) -> bool:
        """Return True if no error of a kind was logged within `LOG_INTERVAL_S`, and note that this one is."""
        now_s = time.monotonic()
        if now_s - self._logged_s.get(kind, -math.inf) < LOG_INTERVAL_S:
            return False
        self._logged_s[kind] = now_s
        return True


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    known = _parameters_of(request)
    lines = (_complaint(each, known) for each in error.errors())
    return answer_to(Unprocessable(encodable("; ".join(itertools.islice(lines, MAX_REPORTED_ERRORS)))))


def _parameters_of(request: Request) -> list[str]:
    """Return the names of the parameters that an endpoint takes as models."""
    models = (field.field_info.annotation for field in request.scope["route"].dependant.query_params)
    return [name for model in models for name in getattr(model, "model_fields", ())]


def _complaint(error: Mapping[str, Any], known: Sequence[str]) -> str:
    place = _place(error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{place} = {without_query(str(error.get('input')))[:100]}: {error['msg']}"
    near = difflib.get_close_matches(place, known, n=1)
    return f"{place}: unknown parameter; {f'did you mean {near[0]}?' if near else '/docs lists all'}"


def _place(location: Sequence[str | int]) -> str:
    """Return the name of the parameter or field of an error, without the index of an item in it."""
    names = (part for part in location if isinstance(part, str) and part not in ("query", "path", "body"))
    return without_query(next(names, "the document"))[:100]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # not request.url, which also depends on the Host header
    hint = "remove the trailing slash" if path.endswith("/") and path != "/" else "/docs lists all endpoints"
    title = HTTPStatus(error.status_code).phrase
    headers = error.headers if error.status_code != 405 else {"Allow": ", ".join(_methods(request))}
    detail = f"{request.method} {path[:200]}: {title}; {hint}"
    return ProblemResponse(error.status_code, title.lower().replace(" ", "-"), title, detail, headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes of a path; a path with GET also has HEAD."""
    asked = {method: {**request.scope, "method": method.replace("HEAD", "GET")} for method in HTTPMethod}
    routes = request.app.routes
    return [method for method in asked if any(route.matches(asked[method])[0] is Match.FULL for route in routes)]


async def _caller_left(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
