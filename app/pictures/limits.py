"""Limits of an upload, taken from the settings."""

from dataclasses import fields
from typing import Self

from app.settings import Settings
from model.pictures import limits


class Limits(limits.Limits):
    """Limits with the names of settings."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take the limits from the settings."""
        return cls(**{limit.name: getattr(settings, limit.name) for limit in fields(cls)})
