"""Address, scheme and prefix of callers behind trusted proxies, from the headers that proxies add."""

import ipaddress
import re
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.fields import members, parameter, split
from app.lists import Network
from app.settings import PREFIX_PATTERN

PEER = "peer"
"""Key in the state of a request: the address of the trusted proxy that sent it."""

FORWARDED_PREFIX = "forwarded_prefix"
"""Key in the state of a request: the prefix that proxies have removed from its path."""

SCHEMES = frozenset({"http", "https"})
MAX_PREFIX_CHARS = 200

NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?|([0-9A-Fa-f:.]+)")
"""An address with or without a port, in the syntax of RFC 7239 or of `X-Forwarded-For`."""


class ForwardedMiddleware:
    """ASGI middleware: applies `X-Forwarded-For`, `-Proto`, `-Prefix` and `Forwarded` if a trusted proxy sent them.

    The caller is the right-most address that is not trusted: everything to its left may be forged. If both kinds of
    headers are present and name different callers, one of them came from the caller, and both are ignored.

    Args:
        trusted: addresses of trusted proxies.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        peer = address_of((scope.get("client") or ("",))[0]) if scope["type"] == "http" else None
        if peer is not None and self._trusts(peer):
            headers = Headers(scope=scope)
            scope = {**scope, **self._caller(headers, peer, scope["scheme"])}
            state = {PEER: peer, FORWARDED_PREFIX: prefix_in(headers)}
            scope["state"] = {**scope.get("state", {}), **state}
        await self._app(scope, receive, send)

    def _caller(self, headers: Headers, peer: str, scheme: str) -> Mapping[str, object]:
        """Return the address and the scheme of the caller, as keys of the scope."""
        elements = _elements(headers)
        known = members(headers, "x-forwarded-for")
        protocols = members(headers, "x-forwarded-proto")
        element, listed = self._hop([e.get("for", "") for e in elements], peer), self._hop(known, peer)
        addresses = {hop[0] for hop in (element, listed) if hop}
        if len(addresses) != 1:
            return {"client": (peer, 0), "scheme": scheme}
        named = {elements[element[1]].get("proto", "").lower()} if element else set()
        if protocols:
            # One value per hop, or only that of the last hop, the trusted proxy.
            of_hop = listed is not None and len(protocols) == len(known)
            named.add(protocols[listed[1] if listed and of_hop else -1].lower())
        named &= SCHEMES
        return {"client": (addresses.pop(), 0), "scheme": named.pop() if len(named) == 1 else scheme}

    def _hop(self, chain: Sequence[str], peer: str) -> tuple[str, int] | None:
        """Find the right-most untrusted address of a chain, else the left-most one; None for an empty chain.

        Returns:
            The address and its index. An unknown or obfuscated address ends the search at the proxy that reported it.
        """
        found, index = peer, len(chain) - 1
        for index in range(len(chain) - 1, -1, -1):
            address = address_of(chain[index])
            if address is None:
                break
            found = address
            if not self._trusts(address):
                break
        return (found, index) if chain else None

    def _trusts(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._trusted)


def address_of(node: str) -> str | None:
    """Return the IP address in a node such as `192.0.2.1:80` or `[2001:db8::1]`, in its shortest form; None if none."""
    found = NODE.fullmatch(node.strip())
    if found is None:
        return None
    try:
        address = ipaddress.ip_address(next(filter(None, found.groups()), ""))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def prefix_in(headers: Headers) -> str:
    """Return the prefix that proxies have removed, the outermost one's first; empty if none."""
    prefix = "".join(member.rstrip("/") for member in members(headers, "x-forwarded-prefix"))
    return prefix if len(prefix) <= MAX_PREFIX_CHARS and re.fullmatch(PREFIX_PATTERN, prefix) else ""


def _elements(headers: Headers) -> list[Mapping[str, str]]:
    """Return the elements of `Forwarded` (RFC 7239), one per hop."""
    return [dict(map(parameter, split(element, ";"))) for element in members(headers, "forwarded")]
