"""The ASGI application: endpoints, errors, and who is let in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI

from app import VERSION
from app.access.keys import Right
from app.http import openapi
from app.http.auth import Access
from app.http.endpoints.docs import docs_routes
from app.http.endpoints.health import health_routes
from app.http.endpoints.metrics import metrics_routes
from app.http.endpoints.models import model_routes, reload_routes
from app.http.endpoints.upscale import upscale_routes
from app.http.middleware.context import RequestContext
from app.http.middleware.deadline import Deadlines
from app.http.middleware.entrance import WORK, Entrance
from app.http.middleware.headers import SecureHeaders
from app.http.middleware.paths import HeadAsGet, Prefix
from app.http.openapi import problems, servers
from app.http.problems import add_problem_handlers
from app.lifecycle import Lifecycle
from app.telemetry.logs import log_access
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from app.telemetry.traces import Traces

DESCRIPTION = "Upscales pictures with ESRGAN generators: post one, get it back larger and sharper."


def create_app(life: Lifecycle, traces: "Traces | None" = None) -> FastAPI:
    """The application around a service that loads when the application starts, and ends with it.

    Raises:
        SettingsError: the file of keys cannot be used.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        life.begin()
        yield
        await life.end()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    metrics = Metrics(life)
    observers = [log_access, metrics.observe, *([traces.observe] if traces is not None else [])]
    app = FastAPI(
        title="esrgan-serve",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,  # ours has a policy
        redoc_url=None,
        redirect_slashes=False,  # a redirect names the Host that the caller sent, and http behind a proxy with TLS
        servers=servers(life.settings.root_path),
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours knows stages, and what a px is
    )
    app.state.observers = observers  # of those that the server refuses before they get here, too
    # The last one added is the first to see a request.
    app.add_middleware(Deadlines, default_s=life.settings.wait_s, most_s=life.settings.max_wait_s, below=WORK)
    app.add_middleware(Entrance, life=life)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestContext, observers=observers)
    app.add_middleware(SecureHeaders)
    app.add_middleware(Prefix, prefix=life.settings.root_path)
    add_problem_handlers(app)
    access = Access(life.settings)
    with_key = [Depends(access.demand(Right.UPSCALE))]
    for routes in (upscale_routes(life), model_routes(life)):
        app.include_router(routes, dependencies=with_key, responses=problems(openapi.WORK))
    monitoring = [Depends(access.demand(Right.METRICS))]
    app.include_router(metrics_routes(metrics), dependencies=monitoring, responses=problems(openapi.WITH_KEY))
    administering = [Depends(access.demand(Right.ADMINISTER))]
    app.include_router(reload_routes(life), dependencies=administering, responses=problems(openapi.WORK))
    app.include_router(health_routes(life), responses=problems(openapi.ANYWHERE))
    app.include_router(docs_routes(app.title))
    return app
