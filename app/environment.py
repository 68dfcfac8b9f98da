"""Reads the settings from the environment."""

import difflib
import os
import re
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.settings import PREFIX, SERVICE_ADDRESS, Settings, SettingsError

SERVICE_LINK = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""Names, after the prefix, of the variables that Kubernetes sets for a Service whose name begins with esrgan."""

MAX_EDITS = 2
"""Maximum number of places in which a misspelt setting differs: swapped letters are two, a word too many is one."""


def _is_service_link(name: str, value: str) -> bool:
    """Return True for a variable that describes a Kubernetes Service and is not a setting."""
    rest = name.upper().removeprefix(PREFIX)
    return bool(SERVICE_LINK.fullmatch(rest) or (rest.endswith("_PORT") and SERVICE_ADDRESS.match(value)))


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: settings are unknown or wrong.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    if unknown := sorted(
        name for name, value in found.items() if name.upper() not in known and not _is_service_link(name, value)
    ):
        close = sorted({PREFIX + rest for name in unknown if (rest := _closest(name, known))})
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}, misspelt or of another version; {hint}the settings are "
            f"{', '.join(sorted(known))}"
        )
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_line(wrong) for wrong in error.errors())) from None
    return settings


def _closest(name: str, known: Iterable[str]) -> str:
    """Return the setting, without the prefix, that differs from a name in few letters; empty if none does."""
    unknown = name.upper().removeprefix(PREFIX)
    rests = [setting.removeprefix(PREFIX) for setting in known]  # the common prefix would make all names similar
    for rest in difflib.get_close_matches(unknown, rests, n=1, cutoff=0.55):
        edits = difflib.SequenceMatcher(None, rest, unknown).get_opcodes()
        if sum(tag != "equal" for tag, *_ in edits) <= MAX_EDITS:
            return rest
    return ""


def _line(wrong: ErrorDetails) -> str:
    """Describe a wrong setting, without its value where that may hold a password."""
    name = str(wrong["loc"][0])
    value = f"={wrong['input']!r}" if Settings.model_fields[name].repr else ""
    return f"{PREFIX}{name.upper()}{value}: {wrong['msg']}"


def check_keys(settings: Settings) -> None:
    """Check that a service with these settings may open its port.

    Raises:
        SettingsError: other machines can reach it, and there are no keys.
    """
    if settings.keys is None and not settings.allow_anonymous and not settings.is_local:
        raise SettingsError(
            f"ESRGAN_HOST={settings.host} is reachable from other machines, and there are no keys; set ESRGAN_KEYS "
            "to a key file (`python -m app key NAME` makes one), or set ESRGAN_ALLOW_ANONYMOUS=true"
        )
