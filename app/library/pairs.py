"""Which two models a caller may choose a place between: one trained for PSNR, and one trained on from it with a GAN."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = 20
"""Networks between the two of a pair are made for steps of 1 / STEPS, and kept."""

ROLE = re.compile(r"(?<![a-z])(psnr|esrgan|gan)(?![a-z])")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Names of two models that differ only in the word `psnr` of the one and `esrgan` or `gan` of the other."""

    psnr: str
    gan: str


def pairs(names: Iterable[str]) -> dict[str, Pair]:
    """The pairs among some models, by the names of both.

    Whether the two were really trained from one another is found out by their weights, when one between is made.
    """
    roles: dict[str, dict[str, str]] = {}
    for name in sorted(names):  # so that of an `esrgan` and a `gan` the former is taken
        if found := ROLE.search(name.lower()):
            rest = name.lower()[: found.start()] + "*" + name.lower()[found.end() :]
            roles.setdefault(rest, {}).setdefault("psnr" if found[1] == "psnr" else "gan", name)
    both = [Pair(psnr=role["psnr"], gan=role["gan"]) for role in roles.values() if len(role) == 2]
    return {name: pair for pair in both for name in (pair.psnr, pair.gan)}
