"""Generators in ncnn's format: a `.param` (the graph, as text) and a `.bin` (the weights).

The `.bin` has the convolutions in the order of the graph, each as a flag for the number format, the weights padded to 4
bytes, and float32 biases. There are no names, so the order gives them. To make sure that the graph is that of a
generator, it is run on a small picture as it is written, and must give the same output as the network made from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from model.errors import WeightsError
from model.files.by_shape import convolution_names
from model.files.weight_bytes import readable, weight_bytes
from model.rrdb import PaddingMode, RRDBNet

MAGIC = "7767517"
FLOAT16, FLOAT32 = 0x01306B47, 0
"""Flags of weights that are not quantised."""

MAX_BYTES = 2**30
"""Maximum size of either file."""

MAX_LAYERS = 100_000

MAX_CHANNELS = 2**14
"""Maximum channels of a layer, so that repeated `Concat`s cannot fill the memory."""

TOLERANCE = 1e-3
"""Maximum difference between graph and network for a picture in [0, 1]."""


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


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The layers in order; weight and bias of each convolution by the name of its output."""

    layers: tuple[Layer, ...]
    convolutions: dict[str, tuple[Tensor, Tensor | None]]


def read_graph(path: Path) -> Graph:
    """Read a `.param` and the `.bin` next to it.

    Raises:
        UnreadableError: one of them cannot be read at the moment.
        WeightsError: one of them is missing, broken, or holds layers that ESRGAN's generator does not have.
    """
    param, weights = path.with_suffix(".param"), path.with_suffix(".bin")
    with readable(path):
        if sum(part.exists() for part in (param, weights)) == 1:
            raise WeightsError(f"{path} needs {param.name} and {weights.name} side by side")
        if max(part.stat().st_size for part in (param, weights)) > MAX_BYTES:
            raise WeightsError(f"{path} is larger than {MAX_BYTES} bytes; generators are smaller")
    graph, data = weight_bytes(param, text=True), weight_bytes(weights)
    try:
        layers = _parse(graph.decode("ascii"))
        return Graph(layers=layers, convolutions=_convolutions(layers, data))
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{path} is not a readable ncnn network ({error})") from error


def tensors_of(graph: Graph) -> dict[str, Tensor]:
    """Return the weights under our names: the convolutions are in the order in which a generator runs them.

    Raises:
        WeightsError: no generator has that number of convolutions.
    """
    enlargements = sum(layer.kind == "Interp" for layer in graph.layers)
    in_blocks, rest = divmod(len(graph.convolutions) - 4 - enlargements, 15)
    if rest or in_blocks < 1:
        raise WeightsError(f"has {len(graph.convolutions)} convolutions, which no ESRGAN generator has")
    names = convolution_names(in_blocks, enlargements)
    tensors: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, graph.convolutions.values(), strict=True):
        tensors[f"{name}.weight"] = weight
        if bias is not None:
            tensors[f"{name}.bias"] = bias
    return tensors


def scale_of(graph: Graph) -> int | None:
    """Return 3 if the graph enlarges by 3, else None: the weights show the other scales."""
    return 3 if any(layer.kind == "Interp" and layer.number(1, 1) == 3 for layer in graph.layers) else None


def with_padding_of(graph: Graph, net: RRDBNet) -> RRDBNet:
    """Give the network the padding of the graph, which its weights do not show."""
    mode: PaddingMode = "replicate" if any(layer.kind == "Padding" for layer in graph.layers) else "zeros"
    if mode == net.config.padding_mode:
        return net
    with torch.device("meta"):
        padded = RRDBNet(replace(net.config, padding_mode=mode))
    padded.load_state_dict(net.state_dict(), assign=True)
    return padded.eval().requires_grad_(False)


@torch.inference_mode()
def refuse_other_graph(graph: Graph, net: RRDBNet) -> None:
    """Run the graph as it is written, and compare its output with that of the network.

    Raises:
        WeightsError: they differ.
    """
    chance = torch.Generator().manual_seed(0)
    height, width = (side * net.config.unshuffle for side in (6, 5))
    picture = torch.rand(1, net.config.inputs, height, width, generator=chance)
    if net.config.inputs == 1:
        picture = picture.expand(1, 3, height, width)
    if net.config.inputs == 4:
        picture[:, 3] = 1
    expected = net(picture[:, :3])
    try:
        made = _run(graph, picture[:, : net.config.inputs])[:, : net.config.colours]
    except (LookupError, OverflowError, RuntimeError, ValueError) as error:
        raise WeightsError(f"has a graph that does not fit together ({' '.join(str(error).split())[:200]})") from error
    size = max(1.0, float(expected.abs().max()))
    if made.shape[2:] != expected.shape[2:] or not (made - expected).abs().max() <= TOLERANCE * size:
        raise WeightsError("has the convolutions of an ESRGAN generator but does something else with them")


def _parse(text: str) -> tuple[Layer, ...]:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != [MAGIC]:
        raise ValueError(f"its first line is not {MAGIC}")
    if int(lines[1][0]) != len(lines) - 2 or len(lines) > MAX_LAYERS:
        raise ValueError(f"it announces {lines[1][0]} layers and has {len(lines) - 2}")
    return tuple(_layer(words) for words in lines[2:])


def _layer(words: Sequence[str]) -> Layer:
    kind, _, ins, outs = words[0], words[1], int(words[2]), int(words[3])
    if min(ins, outs) < 0 or len(words) < 4 + ins + outs:
        raise ValueError(f"the layer {words[1][:40]} ends early")
    if kind not in OPERATIONS:
        raise ValueError(f"it has a layer {kind[:40]!r}, which ESRGAN's generator does not")
    parameters = {}
    for word in words[4 + ins + outs :]:
        key, _, value = word.partition("=")
        numbers = tuple(float(number) for number in value.split(","))
        is_list = int(key) <= -23300
        parameters[-int(key) - 23300 if is_list else int(key)] = numbers[1:] if is_list else numbers
    return Layer(
        kind=kind,
        inputs=tuple(words[4 : 4 + ins]),
        outputs=tuple(words[4 + ins : 4 + ins + outs]),
        parameters=parameters,
    )


def _convolutions(layers: Sequence[Layer], data: bytes) -> dict[str, tuple[Tensor, Tensor | None]]:
    made: dict[str, tuple[Tensor, Tensor | None]] = {}
    offset = 0
    for layer in layers:
        if layer.kind != "Convolution":
            continue
        outputs, count = int(layer.number(0, 0)), int(layer.number(6, 0))
        if (layer.number(1, 0), layer.number(2, 1), layer.number(3, 1)) != (3, 1, 1) or layer.number(4, 0) not in (
            0,
            1,
        ):
            raise ValueError(f"the convolution {layer.outputs[0][:40]} is not 3x3 with stride 1 and padding 0 or 1")
        if outputs < 1 or count < 1 or count % (9 * outputs):
            raise ValueError(f"the convolution {layer.outputs[0][:40]} has {count} weights for {outputs} channels")
        weight, offset = _weights(data, offset, count)
        bias = None
        if layer.number(5, 0):
            bias, offset = _numbers(data, "<f4", outputs, offset), offset + 4 * outputs
        made[layer.outputs[0]] = (weight.view(outputs, -1, 3, 3), bias)
    if offset != len(data):
        raise ValueError(f"its weights take {offset} bytes; the .bin has {len(data)}")
    return made


def _weights(data: bytes, offset: int, count: int) -> tuple[Tensor, int]:
    flag = int.from_bytes(data[offset : offset + 4], "little")
    if flag == FLOAT16:
        return _numbers(data, "<f2", count, offset + 4), offset + 4 + (2 * count + 3) // 4 * 4
    if flag == FLOAT32:
        return _numbers(data, "<f4", count, offset + 4), offset + 4 + 4 * count
    raise ValueError(f"byte {offset} has flag {flag:#x}; quantised weights cannot be read")


def _numbers(data: bytes, dtype: str, count: int, offset: int) -> Tensor:
    return torch.from_numpy(numpy.frombuffer(data, dtype, count, offset).astype(numpy.float32))


def _run(graph: Graph, picture: Tensor) -> Tensor:
    """Run the graph layer by layer; `Input` layers name the picture."""
    values: dict[str, Tensor] = {}
    made = picture
    for layer in graph.layers:
        inputs = [values[name] for name in layer.inputs]
        if layer.kind == "Input":
            made = picture
        elif layer.kind == "Convolution":
            weight, bias = graph.convolutions[layer.outputs[0]]
            made = _activated(layer, functional.conv2d(inputs[0], weight, bias, padding=int(layer.number(4, 0))))
        else:
            made = OPERATIONS[layer.kind](layer, inputs)
        values.update(dict.fromkeys(layer.outputs, made))
    return made


def _activated(layer: Layer, made: Tensor) -> Tensor:
    kind = layer.number(9, 0)
    if kind not in (0, 1, 2):
        raise ValueError(f"activation {kind}")
    slope = layer.number(10, 0.0) if kind == 2 else 0.0
    return functional.leaky_relu(made, slope) if kind else made


def _concat(_: Layer, inputs: Sequence[Tensor]) -> Tensor:
    if sum(one.shape[1] for one in inputs) > MAX_CHANNELS:
        raise ValueError(f"a Concat of more than {MAX_CHANNELS} channels")
    return torch.cat(list(inputs), dim=1)


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
    if layer.number(0, 0) != 1 or factor not in (2, 3) or layer.number(2, 1) != factor:
        raise ValueError("an Interp that is not nearest by 2 or 3")
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


OPERATIONS: dict[str, Callable[[Layer, Sequence[Tensor]], Tensor]] = {
    "Input": lambda _, inputs: inputs[0],
    "Convolution": lambda _, inputs: inputs[0],
    "Split": lambda _, inputs: inputs[0],
    "Concat": _concat,
    "ReLU": lambda layer, inputs: functional.leaky_relu(inputs[0], layer.number(0, 0.0)),
    "Eltwise": _eltwise,
    "BinaryOp": _binary,
    "Interp": _interp,
    "Padding": _padding,
    "Reorg": _reorg,
}
"""Layers of ESRGAN generators and their functions; the first two are handled by `_run`, which has more to go by."""
