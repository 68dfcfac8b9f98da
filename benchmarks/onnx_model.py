"""The generator as an ONNX model, for ONNX Runtime and OpenVINO."""

import onnx
from onnx import helper, numpy_helper
from torch import Tensor

from benchmarks.graph import INPUT, OUTPUT, Concatenation, Convolution, Doubling, Graph, Node, Residual
from model.rrdb import NEGATIVE_SLOPE, RRDBNet

OPSET, IR_VERSION = 18, 10
"""Not the newest: every runtime reads these."""

Parts = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]
"""Nodes and their constants."""


def to_onnx(net: RRDBNet, height: int, width: int) -> bytes:
    """A model that takes and gives float32 RGB in [0, 1], (1, 3, height, width) -> (1, 3, scale * height, ...)."""
    nodes, constants = [], []
    for node in Graph(net).nodes:
        more_nodes, more_constants = _written(node)
        nodes += more_nodes
        constants += more_constants
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, factor * height, factor * width])
        for name, factor in ((INPUT, 1), (OUTPUT, net.config.scale))
    ]
    graph = helper.make_graph(nodes, "generator", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    return model


def _written(node: Node) -> Parts:
    match node.operation:
        case Convolution(conv, leaky):
            return _convolution(node, conv.state_dict(), leaky)
        case Concatenation():
            return [helper.make_node("Concat", node.inputs, [node.output], axis=1)], []
        case Residual(factor):
            first, second = node.inputs
            number = helper.make_tensor(f"{node.output}.factor", onnx.TensorProto.FLOAT, [], [factor])
            scaled = helper.make_node("Mul", [second, number.name], [f"{node.output}.scaled"])
            return [scaled, helper.make_node("Add", [first, *scaled.output], [node.output])], [number]
        case Doubling():
            scales = helper.make_tensor(f"{node.output}.scales", onnx.TensorProto.FLOAT, [4], [1, 1, 2, 2])
            nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return [helper.make_node("Resize", [*node.inputs, "", scales.name], [node.output], **nearest)], [scales]


def _convolution(node: Node, weights: dict[str, Tensor], leaky: bool) -> Parts:
    constants = [numpy_helper.from_array(weights[name].numpy(), f"{node.output}.{name}") for name in ("weight", "bias")]
    convolved = f"{node.output}.linear" if leaky else node.output
    inputs = [*node.inputs, *(constant.name for constant in constants)]
    nodes = [helper.make_node("Conv", inputs, [convolved], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    if leaky:
        nodes.append(helper.make_node("LeakyRelu", [convolved], [node.output], alpha=NEGATIVE_SLOPE))
    return nodes, constants
