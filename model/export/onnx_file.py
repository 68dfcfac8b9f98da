"""A generator as an ONNX model for pictures of any size.

Written node by node: `torch.onnx.export` makes the same convolutions, but takes a hundred times as long for them and
needs one more package (docs/decisions/0030-exports-written-node-by-node.md).
"""

from collections.abc import Mapping
from typing import Any

import numpy
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from model.export.graph import INPUT, OUTPUT, Concatenation, Convolution, Enlargement, Graph, Node, Residual, Unshuffle
from model.rrdb import NEGATIVE_SLOPE, RRDBConfig, RRDBNet

OPSET, IR_VERSION = 18, 10
"""Not the newest: every runtime reads these."""


def to_onnx(net: RRDBNet, *, margin_px: int | None = None, properties: Mapping[str, str] | None = None) -> bytes:
    """Make a model that takes and gives float32 RGB in [0, 1], (N, 3, H, W) -> (N, 3, scale * H, scale * W).

    Args:
        net: on the CPU, float32.
        margin_px: mirrored pixels that the model adds around a picture and cuts off again; by default the margin of
            the service, so that the model gives its pictures.
        properties: metadata of the file.
    """
    config = net.config
    writer = _Writer()
    margin_px = config.margin_px if margin_px is None else margin_px
    entering = writer.entrance(config, margin_px)
    whole = margin_px == 0 and config.unshuffle == 1 and config.inputs != 1
    graph = Graph(net, entering, OUTPUT if whole else "made")
    for node in graph.nodes:
        writer.write(node)
    if not whole:
        writer.exit("made", config, margin_px)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3, height, width])
        for name, height, width in (
            (INPUT, "height", "width"),
            (OUTPUT, f"{config.scale}*height", f"{config.scale}*width"),
        )
    ]
    made = helper.make_graph(writer.nodes, "generator", ends[:1], ends[1:], writer.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(properties or {}))
    serialised: bytes = model.SerializeToString()
    return serialised


class _Writer:
    """Nodes and constants of a model, in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def entrance(self, config: RRDBConfig, margin_px: int) -> str:
        """Convert RGB to the input of the first layer, with a margin; returns the tensor's name."""
        features = INPUT
        if margin_px or config.unshuffle > 1:
            for axis in (2, 3):
                places = self._places(axis, margin_px, config.unshuffle)
                features = self._node("Gather", features, places, axis=axis)
        if config.inputs == 1:  # each colour is a picture of its own
            return self._node("Reshape", features, self._integers(-1, 1, 0, 0))
        if config.inputs == 4:
            one = self._constant(numpy.array(1, numpy.float32))
            return self._node("Pad", features, self._integers(0, 0, 0, 0, 0, 1, 0, 0), one)
        return features

    def exit(self, made: str, config: RRDBConfig, margin_px: int) -> None:
        """Convert the output of the last convolution to RGB, without the margin."""
        if config.inputs == 1:
            made = self._node("Reshape", made, self._integers(-1, 3, 0, 0))
        first = self._integers(config.scale * margin_px)
        sides = self._node("Shape", INPUT, start=2, end=4)
        ends = self._node("Add", first, self._node("Mul", sides, self._integers(config.scale)))
        firsts = self._integers(*[config.scale * margin_px] * 2)
        self._node("Slice", made, firsts, ends, self._integers(2, 3), output=OUTPUT)

    def write(self, node: Node) -> None:
        """Write one operation of the generator."""
        match node.operation:
            case Unshuffle(channels, side):
                self._unshuffle(node, channels, side)
            case Convolution(conv, leaky):
                repeat = conv.padding_mode == "replicate"
                self._convolution(node, conv.state_dict(), leaky=leaky, repeat=repeat)
            case Concatenation():
                self._node("Concat", *node.inputs, output=node.output, axis=1)
            case Residual(factor):
                first, second = node.inputs
                if factor != 1:
                    second = self._node("Mul", second, self._constant(numpy.array(factor, numpy.float32)))
                self._node("Add", first, second, output=node.output)
            case Enlargement(factor):
                scales = self._constant(numpy.array([1, 1, factor, factor], numpy.float32))
                nearest: dict[str, Any] = {
                    "mode": "nearest",
                    "coordinate_transformation_mode": "asymmetric",
                    "nearest_mode": "floor",
                }
                self._node("Resize", *node.inputs, "", scales, output=node.output, **nearest)

    def _convolution(self, node: Node, weights: dict[str, Tensor], *, leaky: bool, repeat: bool) -> None:
        (features,) = node.inputs
        if repeat:
            features = self._node("Pad", features, self._integers(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")
        names = [self._constant(weights[name].numpy(), f"{node.output}.{name}") for name in ("weight", "bias")]
        shape: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [0 if repeat else 1] * 4}
        if not leaky:
            self._node("Conv", features, *names, output=node.output, **shape)
            return
        linear = self._node("Conv", features, *names, **shape)
        self._node("LeakyRelu", linear, output=node.output, alpha=NEGATIVE_SLOPE)

    def _unshuffle(self, node: Node, channels: int, side: int) -> None:
        """Write a convolution, since ONNX's own SpaceToDepth orders the channels in another way."""
        pixels = torch.eye(side * side).reshape(-1, side, side)
        picks = torch.einsum("cd,pij->cpdij", torch.eye(channels), pixels).flatten(0, 1)
        weight = self._constant(picks.numpy())
        self._node("Conv", *node.inputs, weight, output=node.output, kernel_shape=[side, side], strides=[side, side])

    def _places(self, axis: int, margin_px: int, multiple: int) -> str:
        """Write `model.edges.places_with_margin` for a side that is known only at run time."""
        length = self._node("Squeeze", self._node("Shape", INPUT, start=axis, end=axis + 1))
        one, both = self._integer(1), self._node("Mul", length, self._integer(2))
        grown = self._node("Add", length, self._integer(2 * margin_px + multiple - 1))
        padded = self._node("Mul", self._node("Div", grown, self._integer(multiple)), self._integer(multiple))
        end = self._node("Sub", padded, self._integer(margin_px))
        there = self._node("Mod", self._node("Range", self._integer(-margin_px), end, one), both)
        back = self._node("Sub", self._node("Sub", both, one), there)
        return self._node("Min", there, back)

    def _integer(self, value: int) -> str:
        return self._constant(numpy.array(value, numpy.int64))

    def _integers(self, *values: int) -> str:
        return self._constant(numpy.array(values, numpy.int64))

    def _constant(self, values: Any, name: str = "") -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def _node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output
