"""GET /assets/...: scripts and styles of the pages."""

import asyncio

from fastapi import APIRouter, HTTPException, Request, Response

from app.http.assets import Assets


def asset_routes(assets: Assets) -> APIRouter:
    """Make the endpoint of all static files."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/assets/{version}/{name}")
    async def asset(request: Request, version: str, name: str) -> Response:
        answer = await asyncio.to_thread(assets.answer, request, version, name)  # may compress a large file
        if answer is None:
            raise HTTPException(404)
        return answer

    return routes
