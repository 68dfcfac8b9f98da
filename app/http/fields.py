"""Values of header fields: lists whose members may hold quoted strings (RFC 9110, section 5.6).

Everything here takes time in proportion to the length of the value, however it is made: headers are read on the event
loop, before anybody has shown a key.
"""

import re
from collections.abc import Iterator

_TOKENS = {
    # Possessive: a string without an end is taken to the end once, and nothing is tried a second time.
    separator: re.compile(rf'"(?:[^"\\]|\\.)*+"?|[^"{separator}]++|{separator}', re.DOTALL)
    for separator in (",", ";")
}


def split(value: str, separator: str) -> Iterator[str]:
    """The members of a list, without the spaces around them. A separator in a quoted string separates nothing.

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
    """Name, in lower case, and value of `name=value`; quotes around the value are removed."""
    name, _, value = text.partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return name.strip().lower(), value
