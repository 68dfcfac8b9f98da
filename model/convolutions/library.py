"""The convolutions of PyTorch: its own, and those of oneDNN with the weights laid out once."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import finished
from model.rrdb import NEGATIVE_SLOPE


def library_convolution(
    conv: nn.Conv2d,
    window: Tensor,
    *,
    active: bool = False,
    residual: float = 0.0,
    skip: Tensor | None = None,
    target: Tensor | None = None,
    grid_row: int = 0,
) -> Tensor:
    """PyTorch's own convolution: oneDNN's on a CPU, cuDNN's on a GPU. See `Convolver`."""
    window = window.to(conv.weight.dtype)
    if window.shape[2] < 3:
        made = window.new_empty(window.shape[0], conv.out_channels, 0, window.shape[3] - 2)
    else:
        made = functional.conv2d(window, conv.weight, conv.bias)
        made = functional.leaky_relu(made, NEGATIVE_SLOPE, inplace=True) if active else made
    return finished(made, window, residual, skip, target)


class OneDnnConvolver:
    """oneDNN's convolution with LeakyReLU on the way out, its weights laid out once instead of in every call."""

    def __init__(self) -> None:
        self._packed: dict[nn.Conv2d, Tensor] = {}

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        skip: Tensor | None = None,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if window.shape[2] < 3:
            return library_convolution(conv, window, active=active, residual=residual, skip=skip, target=target)
        window = window.to(conv.weight.dtype)
        padding, one = [0, 0], [1, 1]
        if conv not in self._packed:
            # The shape is a hint for the layout; windows of others are right as well.
            self._packed[conv] = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, padding, one, one, 1, window.shape
            )
        after = ("leaky_relu", [NEGATIVE_SLOPE], "") if active else ("none", [], "")
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            window, self._packed[conv], conv.bias, padding, one, one, 1, *after
        )
        return finished(made, window, residual, skip, target)
