"""Requests that the service sends for callers, only to addresses that were checked."""

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from app import VERSION
from app.errors import SourceRefused
from app.jobs.addresses import AddressRules

CONNECT_S = 10.0
IDLE_S = 30.0
"""Maximum time without a byte in either direction."""

USER_AGENT = f"esrgan-serve/{VERSION}"


class Outgoing:
    """Sends requests to the hosts that the rules allow. Follows no redirects and reads no proxy settings."""

    def __init__(self, rules: AddressRules, *, idle_s: float = IDLE_S) -> None:
        self.rules = rules
        self._timeout = httpx2.Timeout(idle_s, connect=CONNECT_S)
        self._certificates: ssl.SSLContext | None = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Send a request; the body of the answer remains to be read.

        Raises:
            SourceRefused: the URL is not allowed, or the answer is a redirect.
            httpx2.TransportError: the host cannot be reached, or stops answering.
            gaierror: the name servers do not answer.
        """
        destination = await self.rules.resolved(url)
        tls = (
            await self._tls()
            if destination.pinned_url.startswith("https:")
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        # One client per request: a connection that was verified for one name must not be reused for another.
        async with httpx2.AsyncClient(
            verify=tls, trust_env=False, follow_redirects=False, timeout=self._timeout
        ) as client:
            request = client.build_request(
                method,
                destination.pinned_url,
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept-Encoding": "identity",
                    **(headers or {}),
                    "Host": destination.host_header,
                },
                content=content,
                extensions={"sni_hostname": destination.host},
            )
            response = await client.send(request, stream=True)
            try:
                if response.is_redirect:
                    raise SourceRefused(
                        f"{destination.host[:200]} redirects elsewhere, which is not followed; use the final URL"
                    )
                yield response
            finally:
                await response.aclose()

    async def _tls(self) -> ssl.SSLContext:
        """Return a context with the system's certificates, read in a thread because that would block the event loop."""
        if self._certificates is None:
            self._certificates = await asyncio.to_thread(ssl.create_default_context)
        return self._certificates
