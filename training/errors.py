"""Errors of a run that its user can fix."""


class ConfigError(ValueError):
    """A config is not valid; the text names the value and the limit."""
