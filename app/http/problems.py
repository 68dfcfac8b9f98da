"""Errors as RFC 9457 problem documents: one shape for every answer that is not a picture."""

import itertools
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.errors import ServiceError, Unprocessable
from app.record import CLIENT_CLOSED_REQUEST, current_record

MEDIA_TYPE = "application/problem+json"
MOST_TOLD = 5
"""Wrong parameters that one answer tells of."""


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the service and of the framework as a problem document."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _caller_left)


def internal_error() -> JSONResponse:
    """The answer to what nobody foresaw: a fixed text."""
    detail = "the service failed on this request; its operator finds the reason in the log under the X-Request-Id"
    return _problem(500, "internal", "Internal error", detail)


def answer_to(error: ServiceError) -> JSONResponse:
    """The problem document that tells the caller of an error."""
    retry = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return _problem(error.status, error.type, error.title, error.detail, {**error.headers, **retry}, error.members)


def problem_type(kind: str) -> str:
    """The URI that programs tell a problem by."""
    return f"urn:esrgan-serve:problem:{kind}"


def http_problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem that HTTP has a name for, and the service has not."""
    title = HTTPStatus(status).phrase
    return _problem(status, title.lower().replace(" ", "-"), title, detail, headers)


def encodable(text: str) -> str:
    """Text in which bytes of a file name that are not UTF-8 are escaped, so that it can be sent as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> JSONResponse:
    current_record().problem = kind
    body = {"type": problem_type(kind), "title": title, "status": status, "detail": encodable(detail)}
    return JSONResponse(body | dict(members or {}), status_code=status, headers=headers, media_type=MEDIA_TYPE)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return answer_to(error)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = (f"{e['loc'][-1]} = {str(e.get('input'))[:100]}: {e['msg']}" for e in error.errors())
    return answer_to(Unprocessable("; ".join(itertools.islice(lines, MOST_TOLD))))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # request.url is made from the header Host too, which may be anything
    hint = "leave out the slash at the end" if path.endswith("/") and path != "/" else "/docs lists what there is"
    detail = f"{request.method} {path[:200]}: {HTTPStatus(error.status_code).phrase}; {hint}"
    return http_problem(error.status_code, detail, error.headers)


async def _caller_left(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
