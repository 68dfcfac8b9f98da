"""Errors of a run that its user can fix."""


class ConfigError(ValueError):
    """A config makes no sense; the text names the value and the limit."""
