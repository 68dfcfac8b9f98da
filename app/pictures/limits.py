"""Limits of an upload, taken from the settings."""

from dataclasses import fields

from app.settings import Settings
from model.pictures.limits import Limits


def limits_of(settings: Settings) -> Limits:
    """Take the limits from the settings of the same names."""
    return Limits(**{limit.name: getattr(settings, limit.name) for limit in fields(Limits)})
