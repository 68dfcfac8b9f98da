"""The API key file, one key per line: `NAME sha256:HASH [role=…] [concurrent=…] [requests_per_minute=…] …`.

It contains no secrets: a token's SHA-256 cannot be reversed, because a token is 256 random bits and not a password.
"""

import enum
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PREFIX = "esrgan_"
"""Prefix of every token, so that secret scanners and people recognise a leaked one."""

NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
HASH = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
COUNT = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class Right(enum.Enum):
    """A right that an endpoint may require."""

    UPSCALE = "upscale pictures"
    METRICS = "read the metrics"
    ADMINISTER = "administer the service"


class Role(enum.Enum):
    """The purpose of a key."""

    CALLER = "caller"
    MONITOR = "monitor"
    OPERATOR = "operator"


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.CALLER: frozenset({Right.UPSCALE}),
    Role.MONITOR: frozenset({Right.METRICS}),
    Role.OPERATOR: frozenset(Right),
}


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """Limits on the requests of one key; None for no limit."""

    concurrent: int | None = None
    """Maximum requests at a time."""
    requests_per_minute: int | None = None
    px_per_minute: int | None = None
    """LR px per minute."""
    jobs: int | None = None
    """Pictures of jobs that wait or run."""
    job_bytes: int | None = None
    """Bytes that the uploads and results of jobs hold."""


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, kw_only=True)
class Key:
    """One line of the file."""

    name: str
    digest: bytes
    role: Role = Role.CALLER
    limits: KeyLimits = NO_LIMITS


class KeysError(Exception):
    """The text is not a valid key file, or a line of one; says why."""


def parse_keys(text: str) -> list[Key]:
    """Parse the lines of a key file; empty lines and comments (`#`) are skipped.

    Two lines may have the same name, for the time in which a new token replaces an old one.

    Raises:
        KeysError: a line is not a key, a hash appears twice, lines of one name differ, or there are no keys.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _parse_line(words)
            _check_with(keys, key)
        except KeysError as error:
            raise KeysError(f"line {number}: {error}") from error
        keys.append(key)
    if not keys:
        raise KeysError("it has no keys; `python -m app key NAME` makes one")
    return keys


def find_key(keys: Iterable[Key], token: str) -> Key | None:
    """Return the key with this token, in a time that does not depend on the token."""
    digest = hashlib.sha256(token.encode()).digest()
    found: Key | None = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def new_key(name: str, options: Sequence[str] = ()) -> tuple[str, str]:
    """Make a token and its line for the key file.

    Args:
        options: such as `role=operator` or `concurrent=4`.

    Raises:
        KeysError: the name or an option is not valid.
    """
    if name.startswith("-"):
        raise KeysError(f"{name[:70]!r} looks like an option; begin the name with a letter or a digit")
    token = PREFIX + secrets.token_urlsafe(32)
    words = [name, f"sha256:{hashlib.sha256(token.encode()).hexdigest()}", *options]
    _parse_line(words)
    return token, " ".join(words)


def _parse_line(words: Sequence[str]) -> Key:
    name, hashed, *options = words if len(words) > 1 else (*words, "")
    if not NAME.fullmatch(name):
        raise KeysError(f"{name[:70]!r} is not a valid name; use up to 64 letters, digits and . _ -")
    found = HASH.fullmatch(hashed)
    if not found:
        raise KeysError(f"after the name {name}, write `sha256:` and the 64 lower-case digits of the hash")
    role, limits = Role.CALLER, dict[str, int]()
    for option in options:
        left, _, right = option.partition("=")
        if left == "role" and right in {role.value for role in Role}:
            role = Role(right)
        elif left in KeyLimits.__dataclass_fields__:
            if not COUNT.fullmatch(right):
                raise KeysError(
                    f"{option[:70]!r}: the value must be a whole number from 1, in digits, such as 60000000"
                )
            limits[left] = int(right)
        else:
            roles = "|".join(role.value for role in Role)
            numbers = ", ".join(f"{limit}=N" for limit in KeyLimits.__dataclass_fields__)
            raise KeysError(f"{option[:70]!r} is not an option; the options are role={roles}, {numbers}")
    return Key(name=name, digest=bytes.fromhex(found[1]), role=role, limits=KeyLimits(**limits))


def _check_with(keys: Iterable[Key], key: Key) -> None:
    for other in keys:
        if hmac.compare_digest(other.digest, key.digest):
            raise KeysError(f"the hash of {key.name} appears twice; make a new key")
        if other.name == key.name and (other.role, other.limits) != (key.role, key.limits):
            raise KeysError(f"another line named {key.name} has other options; lines of one name share them")
