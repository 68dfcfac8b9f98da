"""GET /livez and /readyz, for orchestrators and load balancers."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.lifecycle import Lifecycle, Phase


class Health(BaseModel):
    """The good news; the bad is a problem document."""

    status: str


def health_routes(life: Lifecycle) -> APIRouter:
    """The probes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="Is the process worth keeping?")
    async def livez() -> Health:
        """200 while the service loads, works and drains; 503 once it is broken, e.g. its device's thread has ended."""
        if life.phase is Phase.BROKEN:
            life.check_ready()
        return Health(status="alive")

    @routes.get("/readyz", summary="Should it get requests?")
    async def readyz() -> Health:
        """200 once every network has passed its self-test; otherwise 503, whose member `state` says why."""
        life.check_ready()
        return Health(status="ready")

    return routes
