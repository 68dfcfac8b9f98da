"""Errors of networks and their files."""

from collections.abc import Mapping

from torch import Tensor


def one_line(error: BaseException, most: int = 200) -> str:
    """Return the text of an error for clients: without line breaks, and without the path of a file.

    The text of the system's errors includes the path, so only their reason is used.
    """
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split())[:most] or type(error).__name__


class WeightsError(Exception):
    """A weight file cannot be used; the text has the file, the reason and the remedy."""


class UnreadableError(WeightsError):
    """A weight file cannot be read at the moment, which may have nothing to do with its content."""


class OtherNetworkError(WeightsError):
    """The weights were read, but are not those of an ESRGAN generator."""

    def __init__(self, text: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(text)
        self.tensors = tensors
