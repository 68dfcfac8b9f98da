"""What can be wrong with a network or its file."""

from collections.abc import Mapping

from torch import Tensor


class WeightsError(Exception):
    """A weight file cannot be used; the text names the file, the reason and what would help."""


class OtherNetworkError(WeightsError):
    """The weights were read and are none of ESRGAN's kind."""

    def __init__(self, text: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(text)
        self.tensors = tensors
