"""Limits of an upload, from the settings."""

from dataclasses import fields
from typing import Self

from app.settings import Settings
from model.pictures import limits


class Limits(limits.Limits):
    """The settings of the same names."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Limits with the values of the settings."""
        return cls(**{limit.name: getattr(settings, limit.name) for limit in fields(cls)})
