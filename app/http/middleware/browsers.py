"""Requests from pages of other sites: allowed from origins that the operator names; without keys, from no others.

A browser sends requests for any page, from inside the network of its user. It hides the answers from pages of other
origins (CORS), but only after the service has processed forms and simple requests. If keys are required, these requests
fail, because a page cannot add a key to them.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import CrossSite, Misdirected, ServiceError
from app.http.openapi import PICTURE_HEADERS, REQUEST_ID, STORED_HEADERS
from app.http.problems import answer_to

METHODS = ("GET", "HEAD", "POST", "DELETE")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

REQUEST_HEADERS = (
    *("Authorization", "X-Api-Key", "X-Request-Id", "Prefer", "Idempotency-Key", "Last-Event-ID"),
    *("If-Match", "If-None-Match", "If-Range", "Range", "Traceparent", "Tracestate"),
)
ANSWER_HEADERS = (
    *(REQUEST_ID | PICTURE_HEADERS | STORED_HEADERS),
    *("Accept-Encoding", "Content-Range", "Location", "Retry-After", "WWW-Authenticate"),
)
"""Headers of answers that scripts may read, in addition to the CORS safelist."""

PREFLIGHT_S = 3600
"""Seconds for which a browser may cache the answer to a preflight."""


class CrossOriginMiddleware(CORSMiddleware):
    """Starlette's CORS middleware, for exact origins; refuses a preflight with a problem document.

    Args:
        origins: origins that may call the service; if there are none, all preflights are refused.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
            allow_private_network=True,  # the operator has named the origin
            max_age=PREFLIGHT_S,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight, the request in which a browser asks for permission."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            refusal = CrossSite(f"the origin {origin[:100]} may not call this service; add it to ESRGAN_CORS_ORIGINS")
        else:
            refusal = CrossSite(
                f"pages may send {', '.join(METHODS)} with the headers {', '.join(REQUEST_HEADERS)} and those that "
                "need no permission; send no others"
            )
        refusal.headers = {"Vary": answer.headers["vary"]}
        return answer_to(refusal)

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        """Handle a request that is no preflight; without origins, no answer depends on one."""
        if self.allow_origins:
            await super().simple_response(scope, receive, send, request_headers)
        else:
            await self.app(scope, receive, send)


class BrowserGuardMiddleware:
    """ASGI middleware for a service without keys: refuses requests that a browser sends for pages of other sites.

    Args:
        origins: origins that may call the service.
        published: host and port at which callers reach the service, if not the socket's address.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], published: tuple[str, int | None] | None = None) -> None:
        self._app = app
        self._origins = origins
        self._published = published

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            try:
                self._check(scope, Headers(scope=scope))
            except ServiceError as error:
                await answer_to(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if _is_rebound(self._published or scope.get("server"), host) and f"http://{host}" not in self._origins:
            raise Misdirected(
                f"{host[:100]} is not a name of this service, which has no keys and is called by names of this machine "
                f"alone; call it localhost, set ESRGAN_KEYS, or add http://{host[:100]} to ESRGAN_CORS_ORIGINS"
            )
        if scope["method"] in SAFE_METHODS or headers.get("origin") in self._origins:
            return
        if _is_foreign(headers, host, http_1_0=scope.get("http_version") == "1.0"):
            origin = headers.get("origin", "another site")
            raise CrossSite(
                f"a page of {origin[:100]} may not send {scope['method']} to this service, which has no keys; set "
                "ESRGAN_KEYS, or add the page's origin to ESRGAN_CORS_ORIGINS"
            )


def _is_rebound(server: tuple[str, int | None] | None, host: str) -> bool:
    """Return True if the request may come from a page whose name resolves to this machine (DNS rebinding).

    Such requests arrive at a loopback address with that name and our port. A proxy on this machine also passes on a
    name, but with another port.
    """
    address, port = server or ("", None)
    if not port or not _is_loopback(address):
        return False
    try:
        called = urlsplit(f"//{host}")
        return (called.port or 80) == port and bool(called.hostname) and not _is_of_this_machine(called.hostname or "")
    except ValueError:
        return False  # no browser sends such a header


def _is_of_this_machine(name: str) -> bool:
    """Return True for addresses, and for names that no page of another site can have.

    These names always mean this machine, or have no dot: names of the local network, such as those of containers.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name.rstrip(".") or name.rstrip(".").endswith(".localhost")
    return True


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _is_foreign(headers: Headers, host: str, *, http_1_0: bool) -> bool:
    """Return True for a request that a browser sends for a page of another site or of another origin of this site."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("cross-site", "same-site")
    # Browsers omit it on plain HTTP, except to this machine; all of them send the origin.
    origin = headers.get("origin")
    if origin is None or http_1_0:  # used by proxies, not by browsers; a proxy may have replaced the host
        return False
    try:
        return urlsplit(origin).netloc not in {host, headers.get("x-forwarded-host", host)}
    except ValueError:
        return True  # no browser sends such an origin
