"""PyTorch's convolutions: its own, and those of oneDNN with weights in oneDNN's layout."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import Convolver, Epilogue, finished
from model.rrdb import NEGATIVE_SLOPE


class LibraryConvolver(Convolver):
    """Convolves with PyTorch's own function: oneDNN's on a CPU, cuDNN's on a GPU."""

    name = "library"

    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """See `Convolver`."""
        window = window.to(conv.weight.dtype)
        if window.shape[2] < 3:
            made = window.new_empty(window.shape[0], conv.out_channels, 0, window.shape[3] - 2)
        else:
            made = functional.conv2d(window, conv.weight, conv.bias)
            made = functional.leaky_relu(made, NEGATIVE_SLOPE, inplace=True) if then.active else made
        return finished(made, window, then)


library_convolution = LibraryConvolver()
"""The convolver of everything that the others do not support."""


class OneDnnConvolver(Convolver):
    """Convolves with oneDNN, LeakyReLU included; converts the weights to its layout once instead of in every call."""

    name = "onednn"

    def __init__(self) -> None:
        self._packed: dict[nn.Conv2d, Tensor] = {}

    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """See `Convolver`."""
        if window.shape[2] < 3:
            return library_convolution.convolve(conv, window, then)
        window = window.to(conv.weight.dtype)
        padding, one = [0, 0], [1, 1]
        if conv not in self._packed:
            # The shape is a hint for the layout; the result is right for other windows, too.
            self._packed[conv] = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, padding, one, one, 1, window.shape
            )
        after = ("leaky_relu", [NEGATIVE_SLOPE], "") if then.active else ("none", [], "")
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            window, self._packed[conv], conv.bias, padding, one, one, 1, *after
        )
        return finished(made, window, then)
