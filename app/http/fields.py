"""Parse header fields: lists whose members may contain quoted strings (RFC 9110, section 5.6).

All functions take time linear in the length of any value: headers are parsed on the event loop, before a key has been
checked.
"""

import re
from collections.abc import Iterator

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


def parameter(text: str) -> tuple[str, str]:
    """Split `name=value` into the name in lower case and the value without quotes."""
    name, _, value = text.partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return name.strip().lower(), value
