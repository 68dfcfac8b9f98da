"""Check URLs that callers ask the service to open: the host name, and the addresses that it resolves to."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import SourceRefused
from app.lists import HostRule, Network
from app.text import without_query

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and a port to addresses."""

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 4096
NO_ANSWER = frozenset({socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM})
"""Errors of the look-up itself; the host may exist."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

INSIDE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # the host of virtual machines on Azure
        "192.0.0.0/24",  # IETF protocol assignments, such as the nearest PCP server
        "192.88.99.0/24",  # the nearest 6to4 relay
        "64:ff9b:1::/48",  # IPv4 addresses behind a local translator (RFC 8215)
        "100:0:0:1::/64",  # dummy prefix
        "2001::/23",  # IETF protocol assignments; Teredo, which is part of it, is checked by its IPv4 address
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
"""Networks that are not public although `ipaddress` calls some of them so, in every or in older versions of Python
(CVE-2024-4032). The other special networks of the IANA registries are refused by every version."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A URL and the address to connect to."""

    url: str
    host: str
    port: int
    address: str

    @property
    def pinned_url(self) -> str:
        """The URL with the address in place of the host's name."""
        parts = urlsplit(self.url)
        host = f"[{self.address}]" if ":" in self.address else self.address
        return parts._replace(netloc=f"{host}:{self.port}", fragment="").geturl()

    @property
    def host_header(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[urlsplit(self.url).scheme] else f"{host}:{self.port}"


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for the addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class AddressRules:
    """Checks URLs.

    A host is allowed if a rule names it. All its addresses must also be public, or in an allowed network.

    Args:
        setting: name of the setting that the rules come from, for errors.
        networks: addresses that are allowed although they are not public.
    """

    def __init__(
        self, rules: Sequence[HostRule], *, setting: str, networks: Sequence[Network] = (), resolver: Resolver = resolve
    ) -> None:
        self._rules = rules
        self._setting = setting
        self._networks = networks
        self._resolver = resolver

    def check(self, url: str) -> tuple[str, int]:
        """Check a URL without resolving its host; returns host and port.

        Raises:
            SourceRefused: it is not a URL, or its host is not allowed.
        """
        if len(url) > MAX_URL_CHARS:
            raise SourceRefused(f"the URL has {len(url)} characters; the limit is {MAX_URL_CHARS}")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise SourceRefused(f"{_shown(url)} is not a URL ({error})") from error
        if parts.scheme not in DEFAULT_PORTS or not host or not url.isascii() or not url.isprintable() or " " in url:
            raise SourceRefused(f"{_shown(url)} is not an http or https URL in ASCII; encode other characters")
        if parts.username is not None or parts.password is not None:
            raise SourceRefused("the URL has a user name or a password; use a presigned URL instead")
        if not self._rules:
            raise SourceRefused(f"this service opens no URLs; its operator can allow hosts with {self._setting}")
        port = DEFAULT_PORTS[parts.scheme] if port is None else port
        if not any(rule.allows(host, port) for rule in self._rules):
            raise SourceRefused(f"{parts.netloc} is not among the hosts of {self._setting}; ask the operator to add it")
        return host, port

    async def resolved(self, url: str) -> Destination:
        """Check a URL and the addresses of its host; returns the address to connect to.

        The host is resolved once. Connecting to the checked address, not to the name, prevents DNS rebinding: a second
        look-up could return another address.

        Raises:
            SourceRefused: the host is not allowed, has no address, or has one that is not public.
            gaierror: the name servers do not answer.
        """
        host, port = self.check(url)
        try:
            addresses = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            if isinstance(error, socket.gaierror) and error.errno in NO_ANSWER:
                raise
            raise SourceRefused(f"the host {host[:200]} has no address") from error
        for address in addresses:
            if not self._is_allowed(ipaddress.ip_address(address.partition("%")[0])):
                raise SourceRefused(f"the host {host[:200]} has an address that is not public; use one that is")
        if not addresses:
            raise SourceRefused(f"the host {host[:200]} has no address")
        return Destination(url=url, host=host, port=port, address=addresses[0])

    def _is_allowed(self, address: Address) -> bool:
        if any(address in network for network in self._networks if network.version == address.version):
            return True
        inner = _embedded(address)
        if inner is not None:
            return self._is_allowed(inner)
        if any(address in network for network in INSIDE):
            return False
        return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> Address | None:
    """Return the IPv4 address embedded in an IPv6 address, if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _shown(url: str) -> str:
    return repr(without_query(url)[:200])
