"""The generator as a graph of named tensors: what `onnx_model` and `ncnn_model` write down for other runtimes.

By hand, since no exporter knows both formats; every runtime is checked against the network itself.
"""

from dataclasses import dataclass

from torch import nn

from model.rrdb import RESIDUAL_SCALING, RRDB, ResidualDenseBlock, RRDBNet

INPUT, OUTPUT = "low_res", "upscaled"
"""Names of the float32 tensors (1, 3, H, W) that go in and come out."""


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution, with a LeakyReLU behind it or not."""

    conv: nn.Conv2d
    leaky: bool = False


@dataclass(frozen=True)
class Concatenation:
    """All inputs, one behind the other along the channels."""


@dataclass(frozen=True)
class Residual:
    """The first input plus `factor` times the second."""

    factor: float


@dataclass(frozen=True)
class Doubling:
    """Twice as high and wide, nearest neighbour."""


Operation = Convolution | Concatenation | Residual | Doubling


@dataclass(frozen=True)
class Node:
    """An operation with the names of its inputs and of its output."""

    operation: Operation
    inputs: tuple[str, ...]
    output: str


class Graph:
    """The nodes of a generator in the order of its forward pass."""

    def __init__(self, net: RRDBNet) -> None:
        self.nodes: list[Node] = []
        first = trunk = self._add(Convolution(net.conv_first), INPUT)
        for block in net.body:
            assert isinstance(block, RRDB)
            trunk = self._block(block, trunk)
        features = self._add(Residual(1.0), first, self._add(Convolution(net.conv_body), trunk))
        for conv in net.upsampling:
            features = self._add(Convolution(conv, leaky=True), self._add(Doubling(), features))
        features = self._add(Convolution(net.conv_hr, leaky=True), features)
        self._add(Convolution(net.conv_last), features, output=OUTPUT)

    def _block(self, block: RRDB, entering: str) -> str:
        features = entering
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            features = self._dense(dense, features)
        return self._add(Residual(RESIDUAL_SCALING), entering, features)

    def _dense(self, block: ResidualDenseBlock, entering: str) -> str:
        made, features = [entering], entering
        for conv in block.growing:
            made.append(self._add(Convolution(conv, leaky=True), features))
            features = self._add(Concatenation(), *made)
        return self._add(Residual(RESIDUAL_SCALING), entering, self._add(Convolution(block.conv5), features))

    def _add(self, operation: Operation, *inputs: str, output: str = "") -> str:
        node = Node(operation, inputs, output or f"t{len(self.nodes)}")
        self.nodes.append(node)
        return node.output
