"""GET /docs: a page for the OpenAPI document, whose policy allows only its own script."""

import base64
import hashlib
import re

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html

CDN = "https://cdn.jsdelivr.net/npm/"
"""Source of the page's viewer."""

NOTHING = "data:,"


def docs_routes(title: str) -> APIRouter:
    """Make the page."""
    routes = APIRouter(include_in_schema=False)
    # A relative address, so that the page works below a proxy's prefix.
    page = bytes(get_swagger_ui_html(openapi_url="openapi.json", title=title, swagger_favicon_url=NOTHING).body)
    headers = {"Content-Security-Policy": _policy(page), "Cache-Control": "no-cache"}

    @routes.get("/docs")
    async def docs() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    return routes


def _policy(page: bytes) -> str:
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    own = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {own} {CDN}; style-src 'unsafe-inline' {CDN}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
