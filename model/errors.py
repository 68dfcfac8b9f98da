"""What can be wrong with a network or its file."""

from collections.abc import Mapping

from torch import Tensor


def one_line(error: BaseException, most: int = 200) -> str:
    """The text of an error as callers may read it: without line breaks, and without the path of a file.

    The text of an OSError quotes the whole path, so of those only the reason is taken.
    """
    text = (error.strerror or "") if isinstance(error, OSError) else str(error)
    return " ".join(text.split())[:most] or type(error).__name__


class WeightsError(Exception):
    """A weight file cannot be used; the text names the file, the reason and what would help."""


class UnreadableError(WeightsError):
    """A weight file cannot be read at the moment; that says nothing about what is in it."""


class OtherNetworkError(WeightsError):
    """The weights were read and are none of ESRGAN's kind."""

    def __init__(self, text: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(text)
        self.tensors = tensors
