"""A 3x3 convolution of convolutions.c, with its parameters as they are read there."""

from typing import Any

import torch
from torch import Tensor

from training.native.library import Buffers, ConvWork, laid_out

Gradients = tuple[Tensor, Tensor]
"""The gradients of a weight and its bias."""


class Conv:
    """Holds the parameters of a 3x3 convolution, with channels padded to a multiple of `CHUNK`.

    Args:
        weight: (out, in, 3, 3).
        bias: (out,); zeros by default.

    Attributes:
        inputs, outputs: numbers of channels, padded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._shape = weight.shape
        self._rows = laid_out(weight)
        self.outputs, _, _, self.inputs = self._rows.shape
        self._bias = torch.zeros(self.outputs)
        if bias is not None:
            self._bias[: len(bias)] = bias.detach()
        self._packed = torch.empty(2, self._rows.numel(), dtype=torch.bfloat16)
        self._is_packed = False

    def forward(self, buffers: Buffers, maps: Tensor, made: Tensor | None, **fields: Any) -> ConvWork:
        """Convolve maps (N, span, C) into `made`.

        Args:
            made: (N, span, C); None if `fields` name a picture instead.
            fields: the other fields of `ConvWork`.

        Returns:
            The work, for `back`. Its maps are not kept alive.
        """
        work = ConvWork(
            **{"enlarge": 1, "slope": 1, "in_slope": 1} | fields,
            in_channels=self.inputs,
            out_channels=self.outputs,
            in_pixel=maps.shape[-1],
            weights=None if self._is_packed else self._rows.data_ptr(),
            bias=self._bias.data_ptr(),
            packed=self._packed[0].data_ptr(),
            mirrored=self._packed[1].data_ptr(),
            features=maps.data_ptr(),
        )
        if made is not None:
            work.made, work.made_pixel = made.data_ptr(), made.shape[-1]
        buffers.run("conv_forward", work)
        self._is_packed = True
        return work

    def back(
        self,
        buffers: Buffers,
        work: ConvWork,
        gradient: Tensor,
        *,
        below: Tensor | None = None,
        carry: Tensor | None = None,
    ) -> Gradients:
        """Propagate the gradient of the result to the parameters, and to the maps.

        Args:
            below: becomes the gradient of the maps, in bfloat16.
            carry: the same in float32.
        """
        workers = min(torch.get_num_threads(), work.images)  # the other threads have no image
        weights = 9 * self.inputs * self.outputs
        sums = torch.zeros(workers, weights + self.outputs)
        work.gradients = sums.data_ptr()
        self.back_to_maps(buffers, work, gradient, below=below, carry=carry)
        work.gradients = None
        flat = sums.sum(0) if workers > 1 else sums[0]
        outputs, inputs = self._shape[:2]
        rows = flat[:weights].view(self.outputs, 3, 3, self.inputs).permute(0, 3, 1, 2)
        return rows[:outputs, :inputs], flat[weights:][:outputs]

    def back_to_maps(
        self,
        buffers: Buffers,
        work: ConvWork,
        gradient: Tensor,
        *,
        below: Tensor | None = None,
        carry: Tensor | None = None,
    ) -> None:
        """Propagate the gradient of the result to the maps alone."""
        work.gradient = gradient.data_ptr()
        work.in_gradient, work.carry = (None if one is None else one.data_ptr() for one in (below, carry))
        buffers.run("conv_backward", work)
