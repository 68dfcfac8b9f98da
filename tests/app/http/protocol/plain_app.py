"""A small application behind the real server, for tests of the bytes on the wire."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from app.errors import DeadlinePassed, TooLarge, Unavailable
from app.http.middleware.context import RequestContextMiddleware
from app.http.middleware.deadline import DeadlineMiddleware
from app.http.middleware.entrance import EntranceMiddleware
from app.http.middleware.failures import FailureMiddleware
from app.http.problems import add_problem_handlers
from app.lifecycle import Lifecycle
from app.record import RequestRecord

WHOLE = bytes(range(256)) * 2**15
"""More than the kernel buffers for a connection."""

ERRORS = {
    "deadline": DeadlinePassed("too late"),
    "stop": Unavailable("the service stops", state="draining"),
    "fault": ArithmeticError("no further"),
}


def plain_app(life: Lifecycle, records: list[RequestRecord]) -> FastAPI:
    """Make the application, with the service's middleware.

    Args:
        records: receives those of all requests that have ended.
    """
    app = FastAPI()
    app.add_middleware(DeadlineMiddleware, default_s=60, max_s=60, below="/")
    app.add_middleware(EntranceMiddleware, life=life)
    app.add_middleware(FailureMiddleware)
    app.add_middleware(RequestContextMiddleware, observers=[records.append])
    add_problem_handlers(app)

    async def counted() -> AsyncIterator[None]:
        with life.accept():
            yield

    @app.get("/whole", dependencies=[Depends(counted)])
    async def whole(size: int = len(WHOLE)) -> Response:
        return Response(WHOLE[:size])

    async def pieces(error: Exception | None) -> AsyncIterator[bytes]:
        yield WHOLE[:100_000]
        if error is None:
            await asyncio.Event().wait()
        else:
            raise error

    @app.get("/broken/{name}")
    async def broken(name: str) -> Response:
        return StreamingResponse(pieces(ERRORS.get(name)))

    @app.post("/refused")
    async def refused() -> Response:
        raise TooLarge("not read")

    @app.get("/readyz")
    async def ready() -> str:
        return "ready"

    @app.post("/wait", dependencies=[Depends(counted)])
    async def wait(request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response(status_code=499)

    @app.get("/path")
    async def path(request: Request) -> str:
        return f"{request.headers['host']} {request.url.path} {request.url.query}"

    return app
