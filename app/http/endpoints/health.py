"""GET /livez and /readyz, for orchestrators and load balancers."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.lifecycle import Lifecycle, Phase


class Health(BaseModel):
    """Healthy response; failures are problem documents."""

    status: str


def health_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoints of the probes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/livez", summary="Is the process alive?")
    async def livez() -> Health:
        """Return 200 while the service loads, works and stops; 503 once it is broken, e.g. a dead device thread."""
        if life.phase is Phase.BROKEN:
            life.check_ready()
        return Health(status="alive")

    @routes.get("/readyz", summary="Can it serve requests?")
    async def readyz() -> Health:
        """Return 200 once every network has passed its self-test; otherwise 503, whose member `state` says why."""
        life.check_ready()
        return Health(status="ready")

    return routes
