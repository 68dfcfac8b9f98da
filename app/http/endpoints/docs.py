"""GET /docs: the OpenAPI document for people, shown by a viewer of our own origin."""

from fastapi import APIRouter, Request, Response

from app.http.assets import Assets


def docs_routes(assets: Assets) -> APIRouter:
    """Make the page."""
    routes = APIRouter(include_in_schema=False)
    page = assets.page("docs/index.html")

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        return page.answer(request)

    return routes
