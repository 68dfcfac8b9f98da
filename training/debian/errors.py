"""Errors of rebuilding photographs out of Debian packages."""

from training.errors import Mistake


class DebianError(Mistake):
    """The archive, a name of a package or the folder cannot be used; the command ends."""


class BrokenPackage(Exception):
    """One version of a package cannot be used; other versions may hold the same pictures."""
