"""Parse header fields: lists whose members may contain quoted strings (RFC 9110, section 5.6).

All functions take time linear in the length of any value: headers are parsed on the event loop, before a key has been
checked.
"""

import re
from collections.abc import Iterator, Mapping

from starlette.datastructures import Headers

_TOKENS = {
    # Possessive quantifiers: an unterminated string is read to the end once, without backtracking.
    separator: re.compile(rf'"(?:[^"\\]|\\.)*+"?|[^"{separator}]++|{separator}', re.DOTALL)
    for separator in (",", ";")
}


def split(value: str, separator: str) -> Iterator[str]:
    """Split a list into its members, without surrounding spaces; separators in quoted strings are ignored.

    Args:
        separator: `,` between the members of a list, `;` between parameters.
    """
    member: list[str] = []
    for token in _TOKENS[separator].findall(value):
        if token == separator:
            yield "".join(member).strip()
            member.clear()
        else:
            member.append(token)
    yield "".join(member).strip()


def members(headers: Headers, name: str) -> list[str]:
    """Return the members of a list, which may be in several fields of one name."""
    return [member for value in headers.getlist(name) for member in split(value, ",")]


def preferences(headers: Headers) -> Mapping[str, str]:
    """Return the values of the caller's preferences by name (RFC 7240); where one is repeated, the first counts."""
    found = [parameter(next(split(member, ";"))) for member in members(headers, "prefer")]
    return dict(reversed(found))


def whole_number(value: str) -> int | None:
    """Read a whole number of up to nine digits; None for anything else."""
    return int(value) if value.isdecimal() and value.isascii() and len(value) < 10 else None


def parameter(text: str) -> tuple[str, str]:
    """Split `name=value` into the name in lower case and the value without quotes."""
    name, _, value = text.partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return name.strip().lower(), value
