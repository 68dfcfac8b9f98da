"""Settings that are lists, separated by commas: networks, origins of pages, hosts of URLs; and a host with its port."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")
"""An origin as browsers send it: in lower case, without a path."""

DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")

HOST = re.compile(r"(\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?", re.IGNORECASE)

USUAL_PORTS = frozenset({80, 443})
MAX_PORT = 65535

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, kw_only=True)
class HostRule:
    """Hosts that URLs may have: `host`, `*.example.com` for names below one, or `*` for all.

    Each may have `:PORT`, for another port than 80 and 443.
    """

    pattern: str
    port: int | None
    """None for 80 and 443."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read a rule.

        Raises:
            ValueError: it would match nothing.
        """
        found = HOST.fullmatch(text)
        if found is None or int(found[2] or 0) > MAX_PORT:
            raise ValueError(
                f"{text} is not a host such as hooks.example.com, *.example.com or *, with :PORT for others than 80 "
                "and 443; leave out https:// and the path, and write IPv6 addresses in brackets"
            )
        return cls(pattern=found[1].strip("[]").lower(), port=int(found[2]) if found[2] else None)

    def allows(self, host: str, port: int) -> bool:
        """Return True if a URL may have this host and port."""
        if port not in (USUAL_PORTS if self.port is None else {self.port}):
            return False
        host = host.lower()
        return self.pattern in ("*", host) or (self.pattern.startswith("*.") and host.endswith(self.pattern[1:]))


def networks_of(value: str) -> tuple[Network, ...]:
    """Read networks and addresses.

    Raises:
        ValueError: one is neither.
    """
    return tuple(ipaddress.ip_network(network) for network in _members(value))


def origins_of(value: str) -> tuple[str, ...]:
    """Read origins.

    Raises:
        ValueError: a browser would never send one of them.
    """
    origins = _members(value)
    for origin in origins:
        if not ORIGIN.fullmatch(origin) or DEFAULT_PORT.fullmatch(origin):
            raise ValueError(
                f"{origin} is not an origin as browsers send it, such as https://app.example.com: scheme and host "
                "in lower case, a port if it is not the usual one, no path, no slash at the end"
            )
    return tuple(origins)


def hosts_of(value: str) -> tuple[HostRule, ...]:
    """Read hosts.

    Raises:
        ValueError: one would match nothing.
    """
    return tuple(HostRule.of(rule) for rule in _members(value))


def host_and_port_of(value: str) -> tuple[str, int]:
    """Read an address such as `127.0.0.1:8000` or `[::1]:8000`.

    Raises:
        ValueError: it is none.
    """
    host, _, port = value.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) <= MAX_PORT):
        raise ValueError("it must be HOST:PORT, such as 127.0.0.1:8000")
    return host.strip("[]"), int(port)


def _members(value: str) -> list[str]:
    return [member.strip() for member in value.split(",") if member.strip()]
