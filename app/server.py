"""The ASGI application: endpoints, errors, and the life of the service between start and stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.http.health import health_routes
from app.http.models import model_routes
from app.http.problems import add_problem_handlers
from app.http.upscale import upscale_routes
from app.service import UpscaleService
from app.telemetry import RequestContext

DESCRIPTION = "Upscales pictures with ESRGAN generators: post one, get it back larger and sharper."


def create_app(service: UpscaleService) -> FastAPI:
    """The application around a service whose networks are loaded and have passed their self-test."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.scheduler.start()
        yield
        await service.scheduler.stop(service.settings.drain_s)
        service.close()

    app = FastAPI(title="esrgan-serve", description=DESCRIPTION, version="0.1.0", lifespan=lifespan)
    app.add_middleware(RequestContext)
    add_problem_handlers(app)
    for routes in (upscale_routes(service), model_routes(service), health_routes(service)):
        app.include_router(routes)
    return app
