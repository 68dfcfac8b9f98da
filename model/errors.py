"""What can be wrong with a network or its file."""


class WeightsError(Exception):
    """A weight file cannot be used; the text names the file, the reason and what would help."""
