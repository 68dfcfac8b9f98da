"""The ASGI application: joins middleware, endpoints, access rights and problem documents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI

from app import VERSION
from app.access.keys import Right
from app.http import openapi
from app.http.auth import Authorizer
from app.http.endpoints.health import health_routes
from app.http.endpoints.jobs import job_routes, redelivery_routes
from app.http.endpoints.metrics import metrics_routes
from app.http.endpoints.models import model_routes, reload_routes
from app.http.endpoints.pages import page_routes
from app.http.endpoints.submit import submit_routes
from app.http.endpoints.upscale import upscale_routes
from app.http.middleware.browsers import BrowserGuardMiddleware, CrossOriginMiddleware
from app.http.middleware.context import RequestContextMiddleware
from app.http.middleware.deadline import DeadlineMiddleware
from app.http.middleware.entrance import API_PREFIX, EntranceMiddleware
from app.http.middleware.failures import FailureMiddleware
from app.http.middleware.forwarded import ForwardedMiddleware
from app.http.middleware.headers import SecureHeadersMiddleware
from app.http.middleware.paths import HeadMiddleware, PrefixMiddleware
from app.http.openapi import problems, servers
from app.http.problems import add_problem_handlers
from app.lifecycle import Lifecycle
from app.telemetry.observers import Telemetry

DESCRIPTION = "Upscales pictures with ESRGAN generators: post one, get it back larger and sharper."


class Application(FastAPI):
    """FastAPI with problems and the headers of every answer in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        openapi.add_shared(document)
        return document


def create_app(life: Lifecycle, telemetry: Telemetry | None = None) -> FastAPI:
    """Make the application for a service that starts and stops with it.

    Raises:
        SettingsError: the key file cannot be used.
    """
    telemetry = telemetry or Telemetry(life)
    authorizer = Authorizer(life.settings)
    life.observers = [*telemetry.observers, authorizer.charge]
    life.jobs.key_limits = authorizer.limits

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        life.start()
        yield
        await life.stop()
        await asyncio.to_thread(telemetry.close)

    app = Application(
        title="esrgan-serve",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        openapi_url=None,  # our own endpoint has a tag
        docs_url=None,  # our own page loads nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect repeats the caller's Host header, and uses http behind a TLS proxy
        servers=servers(life.settings.root_path),
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours has stages and pixels
    )
    _add_middleware(app, life, telemetry)
    _add_routes(app, life, telemetry, authorizer)
    return app


def _add_middleware(app: FastAPI, life: Lifecycle, telemetry: Telemetry) -> None:
    """Add the middleware from the innermost to the outermost."""
    settings = life.settings
    app.add_middleware(DeadlineMiddleware, default_s=settings.wait_s, max_s=settings.max_wait_s, below=API_PREFIX)
    app.add_middleware(EntranceMiddleware, life=life)
    app.add_middleware(HeadMiddleware)
    if settings.keys is None:
        app.add_middleware(BrowserGuardMiddleware, origins=settings.cors_origins, published=settings.published)
    app.add_middleware(FailureMiddleware)
    app.add_middleware(CrossOriginMiddleware, origins=settings.cors_origins)
    app.add_middleware(RequestContextMiddleware, observers=telemetry.observers)
    app.add_middleware(SecureHeadersMiddleware)
    app.add_middleware(PrefixMiddleware, prefix=settings.root_path)
    app.add_middleware(ForwardedMiddleware, trusted=settings.trusted_proxies)
    add_problem_handlers(app)


def _add_routes(app: FastAPI, life: Lifecycle, telemetry: Telemetry, authorizer: Authorizer) -> None:
    upscaling = [Depends(authorizer.require(Right.UPSCALE))]
    for routes in (upscale_routes(life), model_routes(life), submit_routes(life)):
        app.include_router(routes, dependencies=upscaling, responses=problems(openapi.API))
    looking = [Depends(authorizer.require(Right.UPSCALE, counts=False))]
    app.include_router(job_routes(life), dependencies=looking, responses=problems(openapi.API))
    app.include_router(redelivery_routes(life), dependencies=upscaling, responses=problems(openapi.API))
    monitoring = [Depends(authorizer.require(Right.METRICS))]
    metrics = metrics_routes(telemetry.metrics)
    app.include_router(metrics, dependencies=monitoring, responses=problems(openapi.WITH_KEY))
    administering = [Depends(authorizer.require(Right.ADMINISTER))]
    app.include_router(reload_routes(life), dependencies=administering, responses=problems(openapi.API))
    app.include_router(health_routes(life), responses=problems(openapi.ANYWHERE))
    app.include_router(page_routes(app, front=life.settings.page))
