"""The layers of ncnn's graphs that generators have, and the function of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One line of a `.param`."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, tuple[float, ...]]

    def number(self, key: int, default: float) -> float:
        """Return a parameter that is a single number."""
        return (self.parameters.get(key) or (default,))[0]


def activated(layer: Layer, made: Tensor) -> Tensor:
    """Apply the activation that a convolution contains."""
    kind = layer.number(9, 0)
    if kind not in (0, 1, 2):
        raise ValueError(f"activation {kind}")
    slope = layer.number(10, 0.0) if kind == 2 else 0.0
    return functional.leaky_relu(made, slope) if kind else made


def _eltwise(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    if layer.number(0, 0) != 1:
        raise ValueError("an Eltwise that is not a sum")
    factors = layer.parameters.get(1) or (1.0,) * len(inputs)
    return sum((factor * one for factor, one in zip(factors, inputs, strict=True)), torch.zeros(()))


def _binary(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    operand = inputs[1] if len(inputs) == 2 else torch.tensor(layer.number(2, 0.0))
    match layer.number(0, 0):
        case 0:
            return inputs[0] + operand
        case 2:
            return inputs[0] * operand
    raise ValueError(f"a BinaryOp {layer.number(0, 0)}")


def _interp(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    factor = layer.number(1, 1)
    if layer.number(0, 0) != 1 or factor not in (2, 3, 4) or layer.number(2, 1) != factor:
        raise ValueError("an Interp that is not nearest by 2, 3 or 4")
    return functional.interpolate(inputs[0], scale_factor=factor, mode="nearest")


def _padding(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    if [layer.number(key, 0) for key in range(5)] != [1, 1, 1, 1, 1]:
        raise ValueError("a Padding that does not repeat the border by one pixel")
    return functional.pad(inputs[0], [1] * 4, mode="replicate")


def _reorg(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    side = layer.number(0, 1)
    if side not in (2, 4) or layer.number(1, 0) != 0:
        raise ValueError("a Reorg that is not a pixel-unshuffle by 2 or 4")
    return functional.pixel_unshuffle(inputs[0], int(side))


def _shuffled(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    if layer.number(1, 0) != 0:
        raise ValueError("a PixelShuffle in another order than PyTorch's")
    return functional.pixel_shuffle(inputs[0], int(layer.number(0, 1)))


OPERATIONS: dict[str, Callable[[Layer, Sequence[Tensor]], Tensor]] = {
    "Input": lambda _, inputs: inputs[0],
    "Convolution": lambda _, inputs: inputs[0],
    "PReLU": lambda _, inputs: inputs[0],
    "Split": lambda _, inputs: inputs[0],
    "Concat": lambda _, inputs: torch.cat(list(inputs), dim=1),
    "ReLU": lambda layer, inputs: functional.leaky_relu(inputs[0], layer.number(0, 0.0)),
    "Eltwise": _eltwise,
    "BinaryOp": _binary,
    "Interp": _interp,
    "Padding": _padding,
    "Reorg": _reorg,
    "PixelShuffle": _shuffled,
}
"""Layers of generators and their functions; the first three need more than this, and are left to their reader."""
