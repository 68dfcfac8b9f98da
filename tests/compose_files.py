"""The compose files, as Docker Compose reads them: variables replaced, and files merged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
BASE = "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-+?])([^${}]*))?\}")
MISSING = "\0"

Service = dict[str, Any]


class MissingVariableError(Exception):
    """Signals a variable without which Compose does nothing."""


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with its variables replaced, the inner ones first.

    Raises:
        MissingVariableError: a variable that is needed, by `:?`, is not set.
    """

    def replaced(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        value = variables.get(name, "")
        if operator == "+":
            return rest if value else ""
        return value or {None: "", "-": rest, "?": f"{MISSING}{rest}"}[operator]

    while (done := VARIABLE.sub(replaced, text)) != text:
        text = done
    if MISSING in text:
        raise MissingVariableError(text)
    return text


def merged(one: Service, other: Service) -> Service:
    """Return a service as two files together describe it: lists are joined, but each place has one volume."""
    result = one | other
    for name in one.keys() & other.keys():
        if name == "volumes":
            places = {volume.split(":")[1]: volume for volume in [*one[name], *other[name]]}
            result[name] = list(places.values())
        elif isinstance(one[name], list):
            result[name] = [*one[name], *other[name]]
        elif isinstance(one[name], dict):
            result[name] = one[name] | other[name]
    return result


def services(*overlays: str, **variables: str) -> dict[str, Service]:
    """Return the services of `docker-compose.yml` and overlays (`gpu` for `docker/compose.gpu.yml`)."""
    found: dict[str, Service] = {}
    for name in (BASE, *(f"docker/compose.{overlay}.yml" for overlay in overlays)):
        content = yaml.safe_load(substituted((ROOT / name).read_text(encoding="utf-8"), variables))
        for service, part in content["services"].items():
            found[service] = merged(found.get(service, {}), part)
    return found
