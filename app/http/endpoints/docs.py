"""GET /openapi.json, and GET /docs, a viewer for it that is served from here."""

import json
from functools import cache

from fastapi import APIRouter, FastAPI, Request, Response

from app.http.assets import Assets
from app.http.conditional import etag_of, unchanged


def docs_routes(app: FastAPI, assets: Assets) -> APIRouter:
    """Make the endpoints of the OpenAPI document and its viewer."""
    routes = APIRouter(include_in_schema=False)
    page = assets.page("docs/index.html")

    @cache
    def document() -> bytes:
        return json.dumps(app.openapi(), separators=(",", ":")).encode()

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        content = document()
        headers = {"ETag": etag_of(content), "Cache-Control": "no-cache"}
        return unchanged(request, headers) or Response(content, media_type="application/json", headers=headers)

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        return page.answer(request)

    return routes
