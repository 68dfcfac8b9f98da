"""The file of API keys, one a line: `NAME sha256:HASH [role=…] [concurrent=…] [requests_per_minute=…] …`.

It holds no secrets: of a token there is only its SHA-256, which cannot be guessed back, since a token is 256 random
bits and not a password.
"""

import enum
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PREFIX = "esrgan_"
"""Begins every token, so that scanners and people recognise one that lies where it should not."""

NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
HASH = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
COUNT = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class Right(enum.Enum):
    """What a request may need."""

    UPSCALE = "upscale pictures"
    METRICS = "read the metrics"
    ADMINISTER = "administer the service"


class Role(enum.Enum):
    """What a key is for."""

    CALLER = "caller"
    MONITOR = "monitor"
    OPERATOR = "operator"


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.CALLER: frozenset({Right.UPSCALE}),
    Role.MONITOR: frozenset({Right.METRICS}),
    Role.OPERATOR: frozenset(Right),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the requests of one key may ask for; None: any amount."""

    concurrent: int | None = None
    """Requests at a time."""
    requests_per_minute: int | None = None
    px_per_minute: int | None = None
    """LR px."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One line of the file."""

    name: str
    digest: bytes
    role: Role = Role.CALLER
    limits: Limits = Limits()


class KeysError(Exception):
    """The text is not a file of keys; says in which line and why."""


def parse_keys(text: str) -> list[Key]:
    """Read the lines of a file; empty ones and those that begin with `#` are left out.

    Two lines may have one name, for the time in which a new token takes over from an old one.

    Raises:
        KeysError: a line is not a key, a hash stands there twice, lines of one name differ, or there is no key at all.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _parse_line(words)
            _check_with(keys, key)
        except ValueError as error:
            raise KeysError(f"line {number}: {error}") from error
        keys.append(key)
    if not keys:
        raise KeysError("there is no key in it; `python -m app key NAME` makes one")
    return keys


def find_key(keys: Iterable[Key], token: str) -> Key | None:
    """The key with this token. Takes equally long whichever it is, and whether there is one."""
    digest = hashlib.sha256(token.encode()).digest()
    found: Key | None = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def new_key(name: str, options: Sequence[str] = ()) -> tuple[str, str]:
    """Make a token and the line for the file.

    Args:
        options: such as `role=operator` or `concurrent=4`.

    Raises:
        KeysError: not a name, or not an option.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    words = [name, f"sha256:{hashlib.sha256(token.encode()).hexdigest()}", *options]
    try:
        _parse_line(words)
    except ValueError as error:
        raise KeysError(str(error)) from error
    return token, " ".join(words)


def _parse_line(words: Sequence[str]) -> Key:
    name, hashed, *options = words if len(words) > 1 else (*words, "")
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:70]!r} is no name; use up to 64 letters, digits and . _ -")
    found = HASH.fullmatch(hashed)
    if not found:
        raise ValueError(f"after the name {name} there is no `sha256:` with 64 digits of a hash; lower case")
    role, limits = Role.CALLER, dict[str, int]()
    for option in options:
        left, _, right = option.partition("=")
        if left == "role" and right in {role.value for role in Role}:
            role = Role(right)
        elif left in Limits.__dataclass_fields__ and COUNT.fullmatch(right):
            limits[left] = int(right)
        else:
            roles = "|".join(role.value for role in Role)
            numbers = ", ".join(f"{limit}=N" for limit in Limits.__dataclass_fields__)
            raise ValueError(f"{option[:70]!r} is no option; there are role={roles}, {numbers}")
    return Key(name=name, digest=bytes.fromhex(found[1]), role=role, limits=Limits(**limits))


def _check_with(keys: Iterable[Key], key: Key) -> None:
    for other in keys:
        if hmac.compare_digest(other.digest, key.digest):
            raise ValueError(f"the hash of {key.name} stands there twice; make a new key")
        if other.name == key.name and (other.role, other.limits) != (key.role, key.limits):
            raise ValueError(f"another line named {key.name} has other options; lines of one name share them")
