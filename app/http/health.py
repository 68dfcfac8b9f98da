"""GET /livez and /readyz, for orchestrators and load balancers."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.errors import Unavailable
from app.service import UpscaleService


class Health(BaseModel):
    """The good news; the bad is a problem document."""

    status: str


def health_routes(service: UpscaleService) -> APIRouter:
    """The probes."""
    routes = APIRouter(tags=["health"])
    scheduler = service.scheduler

    @routes.get("/livez", summary="Is the process worth keeping?")
    async def livez() -> Health:
        if not scheduler.alive and not scheduler.stopping:
            raise Unavailable("the loop that feeds the device has ended; restart the service")
        return Health(status="alive")

    @routes.get("/readyz", summary="Should it get requests?")
    async def readyz() -> Health:
        if scheduler.stopping or not scheduler.alive:
            raise Unavailable("the service is stopping", retry_after_s=5)
        return Health(status="ready")

    return routes
