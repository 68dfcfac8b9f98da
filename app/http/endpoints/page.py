"""GET /: the web page, which uses only the public API."""

from fastapi import APIRouter, Request, Response

from app.http.assets import Assets


def page_routes(assets: Assets) -> APIRouter:
    """Make the endpoint of the page."""
    routes = APIRouter(include_in_schema=False)
    index = assets.page("page/index.html")

    @routes.get("/")
    async def page(request: Request) -> Response:
        return index.answer(request)

    return routes
