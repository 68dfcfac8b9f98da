"""Generators in ncnn's format: a `.param` (the graph, as text) and a `.bin` (the weights).

The `.bin` has the convolutions in the order of the graph, each as a flag for the number format, the weights padded to 4
bytes, and float32 biases. There are no names, so the order gives them. To make sure that the graph is that of a
generator, it is run on a small picture as it is written, and must give the same output as the network made from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import WeightsError, one_line
from model.files.by_shape import AROUND_BLOCKS, IN_A_BLOCK, convolution_names
from model.files.ncnn_layers import OPERATIONS, Layer, activated
from model.rrdb import PaddingMode

MAGIC = "7767517"
FLOAT16, FLOAT32 = 0x01306B47, 0
"""Flags of weights that are not quantised."""

MAX_LAYERS = 100_000

VALUES_PER_WEIGHT, BASE_VALUES = 8, 2**22
"""Maximum values that a graph may compute per weight, and the number allowed on top of that; RRDB networks compute 0.2
to 14 per weight, the smallest ones most."""

TOLERANCE = 1e-3
"""Maximum difference between graph and network for a picture in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The layers in order; weight and bias of each convolution, and the slopes of each PReLU, by its output's name."""

    layers: tuple[Layer, ...]
    weights: dict[str, tuple[Tensor, Tensor | None]]

    def count(self, kind: str) -> int:
        """Count the layers of a kind."""
        return sum(layer.kind == kind for layer in self.layers)


def read_graph(path: Path, param: bytes, weights: bytes) -> Graph:
    """Read a `.param` and the `.bin` next to it.

    Raises:
        WeightsError: one of them is broken, or holds layers that ESRGAN's generator does not have.
    """
    try:
        layers = _parse(param.decode("ascii"))
        return Graph(layers=layers, weights=_weights_of(layers, weights))
    except (ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{path} is not a readable ncnn network ({error})") from error


def tensors_of(graph: Graph) -> dict[str, Tensor]:
    """Return the weights under our names: the convolutions are in the order in which a generator runs them.

    Raises:
        WeightsError: no generator has that number of convolutions.
    """
    enlargements = graph.count("Interp")
    in_blocks, rest = divmod(len(graph.weights) - AROUND_BLOCKS - enlargements, IN_A_BLOCK)
    if rest or in_blocks < 1:
        raise WeightsError(f"has {len(graph.weights)} convolutions, which no ESRGAN generator has")
    names = convolution_names(in_blocks, enlargements)
    tensors: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, graph.weights.values(), strict=True):
        tensors[f"{name}.weight"] = weight
        if bias is not None:
            tensors[f"{name}.bias"] = bias
    return tensors


def compact_tensors_of(graph: Graph) -> dict[str, Tensor] | None:
    """Return the weights of an SRVGG network under their published names; None if the graph is of another kind.

    Raises:
        WeightsError: it does more than such a network.
    """
    if not graph.count("PReLU"):
        return None
    factors = [layer.number(1, 1) for layer in graph.layers if layer.kind == "Interp"]
    if any(factor < 1 for factor in factors):
        raise WeightsError(
            "makes a picture and shrinks it again; take the pair without that (x4), and request the size that you need"
        )
    if len(factors) != 1 or graph.count("PixelShuffle") != 1:
        raise WeightsError("has PReLU layers, but not the two enlargements of an SRVGG network")
    tensors: dict[str, Tensor] = {}
    for number, (weight, bias) in enumerate(graph.weights.values()):
        tensors[f"body.{number}.weight"] = weight
        if bias is not None:
            tensors[f"body.{number}.bias"] = bias
    return tensors


def scale_of(graph: Graph) -> int | None:
    """Return 3 if the graph enlarges by 3, else None: the weights show the other scales."""
    return 3 if any(layer.kind == "Interp" and layer.number(1, 1) == 3 for layer in graph.layers) else None


def padding_of(graph: Graph) -> PaddingMode:
    """Return the padding of the graph, which its weights do not show."""
    return "replicate" if graph.count("Padding") else "zeros"


@torch.inference_mode()
def refuse_other_graph(graph: Graph, net: nn.Module, *, inputs: int = 3, unshuffle: int = 1) -> None:
    """Run the graph as it is written, and compare its output with that of the network.

    Args:
        net: float RGB in, float RGB out.
        inputs: channels that the graph sees.
        unshuffle: divisor of the sides of its pictures.

    Raises:
        WeightsError: they differ.
    """
    chance = torch.Generator().manual_seed(0)
    height, width = (side * unshuffle for side in (6, 5))
    picture = torch.rand(1, inputs, height, width, generator=chance)
    if inputs == 1:
        picture = picture.expand(1, 3, height, width)
    if inputs == 4:
        picture[:, 3] = 1
    expected = net(picture[:, :3])
    try:
        made = _run(graph, picture[:, :inputs])[:, : min(inputs, 3)]
    except (LookupError, OverflowError, RuntimeError, ValueError) as error:
        raise WeightsError(f"has a graph that does not fit together ({one_line(error)})") from error
    size = max(1.0, float(expected.abs().max()))
    if made.shape[2:] != expected.shape[2:] or not (made - expected).abs().max() <= TOLERANCE * size:
        raise WeightsError(f"has the weights of {type(net).__name__} but does something else with them")


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
        raise ValueError(f"it has a layer {kind[:40]!r}, which no network has that is read; take its .pth")
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


def _weights_of(layers: Sequence[Layer], data: bytes) -> dict[str, tuple[Tensor, Tensor | None]]:
    made: dict[str, tuple[Tensor, Tensor | None]] = {}
    offset = 0
    for layer in layers:
        if layer.kind == "PReLU":
            if (slopes := int(layer.number(0, 0))) < 1:  # to numpy, -1 means all the rest
                raise ValueError(f"the PReLU {layer.outputs[0][:40]} has {slopes} slopes")
            made[layer.outputs[0]] = _numbers(data, "<f4", slopes, offset), None
            offset += 4 * slopes
        elif layer.kind == "Convolution":
            made[layer.outputs[0]], offset = _convolution(layer, data, offset)
    if offset != len(data):
        raise ValueError(f"its weights take {offset} bytes; the .bin has {len(data)}")
    return made


def _convolution(layer: Layer, data: bytes, offset: int) -> tuple[tuple[Tensor, Tensor | None], int]:
    outputs, count, padding = (int(layer.number(key, 0)) for key in (0, 6, 4))
    if (layer.number(1, 0), layer.number(2, 1), layer.number(3, 1)) != (3, 1, 1) or padding not in (0, 1):
        raise ValueError(f"the convolution {layer.outputs[0][:40]} is not 3x3 with stride 1 and padding 0 or 1")
    if outputs < 1 or count < 1 or count % (9 * outputs):
        raise ValueError(f"the convolution {layer.outputs[0][:40]} has {count} weights for {outputs} channels")
    weight, offset = _weights(data, offset, count)
    bias = None
    if layer.number(5, 0):
        bias, offset = _numbers(data, "<f4", outputs, offset), offset + 4 * outputs
    return (weight.view(outputs, -1, 3, 3), bias), offset


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
    """Run the graph layer by layer; `Input` layers name the picture.

    Raises:
        WeightsError: its layers compute more values than those of a generator.
    """
    weights = sum(weight.numel() for weight, _ in graph.weights.values())
    most = BASE_VALUES + VALUES_PER_WEIGHT * weights
    values: dict[str, Tensor] = {}
    made, count = picture, 0
    for layer in graph.layers:
        inputs = [values[name] for name in layer.inputs]
        weight, bias = graph.weights.get(layer.outputs[0], (picture, None))
        count += _cost(layer, inputs, weight)
        if count > most:
            raise WeightsError(f"has layers that make more than {most} numbers, too many for {weights} weights")
        if layer.kind == "Input":
            made = picture
        elif layer.kind == "Convolution":
            made = activated(layer, functional.conv2d(inputs[0], weight, bias, padding=int(layer.number(4, 0))))
        elif layer.kind == "PReLU":
            made = functional.prelu(inputs[0], weight)
        else:
            made = OPERATIONS[layer.kind](layer, inputs)
        values.update(dict.fromkeys(layer.outputs, made))
    return made


def _cost(layer: Layer, inputs: Sequence[Tensor], weight: Tensor) -> int:
    """Count the values that a layer will write, or read if those are more."""
    read = sum(one.numel() for one in inputs)
    if layer.kind == "Convolution":
        return max(read, read * len(weight) // max(1, inputs[0].shape[1]))
    return read * int(layer.number(1, 1)) ** 2 if layer.kind == "Interp" else read
