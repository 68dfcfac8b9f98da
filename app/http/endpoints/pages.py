"""GET / and /docs, the pages, with their files; and /openapi.json, which /docs shows."""

import asyncio
import json
from functools import cache

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

from app.http.assets import Assets
from app.http.conditional import etag_of, unchanged


def page_routes(app: FastAPI, *, front: bool) -> APIRouter:
    """Make the endpoints of all that people see in a browser.

    Args:
        front: serve the page at `/`, too, which uses only the public API.
    """
    routes = APIRouter(include_in_schema=False)
    assets = Assets()
    docs_page = assets.page("docs/index.html")

    @routes.get("/assets/{version}/{name}")
    async def asset(request: Request, version: str, name: str) -> Response:
        answer = await asyncio.to_thread(assets.answer, request, version, name)  # may compress a large file
        if answer is None:
            raise HTTPException(404)
        return answer

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
        return docs_page.answer(request)

    if front:
        front_page = assets.page("page/index.html")

        @routes.get("/")
        async def page(request: Request) -> Response:
            return front_page.answer(request)

    return routes
