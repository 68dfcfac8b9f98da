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
from app.http.middleware.forwarded import ForwardedMiddleware
from app.http.middleware.paths import PrefixMiddleware, prefix_of
from app.http.problems import add_problem_handlers
from app.lifecycle import Lifecycle
from app.record import RequestRecord, current_record

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
    app.add_middleware(PrefixMiddleware, prefix="")
    app.add_middleware(ForwardedMiddleware, trusted=life.settings.trusted_proxies)
    add_problem_handlers(app)

    async def counted() -> AsyncIterator[None]:
        with life.accept():
            yield

    @app.get("/whole", dependencies=[Depends(counted)])
    async def whole(size: int = len(WHOLE)) -> Response:
        return Response(WHOLE[:size])

    @app.get("/streamed")
    async def streamed() -> Response:
        return StreamingResponse(_all_pieces())

    @app.get("/broken/{name}")
    async def broken(name: str) -> Response:
        return StreamingResponse(_first_piece(ERRORS.get(name)))

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

    @app.get("/seen")
    async def seen(request: Request) -> dict[str, str]:
        record = current_record()
        return {"client": record.client, "scheme": record.scheme, "prefix": prefix_of(request)}

    @app.get("/path")
    async def path(request: Request) -> str:
        return f"{request.headers['host']} {request.url.path} {request.url.query}"

    return app


async def _all_pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(WHOLE), 100_000):
        yield WHOLE[start : start + 100_000]


async def _first_piece(error: Exception | None) -> AsyncIterator[bytes]:
    """Yield a piece, then raise the error; without an error, wait forever."""
    yield WHOLE[:100_000]
    if error is None:
        await asyncio.Event().wait()
    else:
        raise error
