"""A generator as a graph of named tensors, which `onnx_file` and `ncnn_pair` write down for other runtimes."""

from dataclasses import dataclass

from model.rrdb import RESIDUAL_SCALING, RRDB, Conv3x3, ResidualDenseBlock, RRDBNet

INPUT, OUTPUT = "low_res", "upscaled"
"""Names of the input and output tensors, float32 (N, 3, H, W)."""


@dataclass(frozen=True)
class Unshuffle:
    """`side` x `side` pixels become the channels of one, in the order of `torch.nn.functional.pixel_unshuffle`."""

    channels: int
    """Number of input channels."""
    side: int


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution with its own padding mode, and a LeakyReLU after it if `leaky`."""

    conv: Conv3x3
    leaky: bool = False


@dataclass(frozen=True)
class Concatenation:
    """Concatenates all inputs along the channels."""


@dataclass(frozen=True)
class Residual:
    """The first input plus `factor` times the second."""

    factor: float


@dataclass(frozen=True)
class Enlargement:
    """`factor` times as high and wide, nearest neighbour."""

    factor: int


Operation = Unshuffle | Convolution | Concatenation | Residual | Enlargement


@dataclass(frozen=True)
class Node:
    """An operation with the names of its inputs and of its output."""

    operation: Operation
    inputs: tuple[str, ...]
    output: str


class Graph:
    """The nodes of a generator in the order of its forward pass.

    Args:
        first: name of the input, (N, inputs, H, W); H and W are multiples of the unshuffle.
        last: name of the output.
    """

    def __init__(self, net: RRDBNet, first: str = INPUT, last: str = OUTPUT) -> None:
        self.nodes: list[Node] = []
        inputs, side = net.config.inputs, net.config.unshuffle
        entering = self._add(Unshuffle(inputs, side), first) if side > 1 else first
        features = trunk = self._convolution(net.conv_first, entering)
        for block in net.body:
            assert isinstance(block, RRDB)
            trunk = self._block(block, trunk)
        features = self._add(Residual(1.0), features, self._convolution(net.conv_body, trunk))
        for conv, factor in zip(net.upsampling, net.config.enlargements, strict=True):
            features = self._convolution(conv, self._add(Enlargement(factor), features), leaky=True)
        features = self._convolution(net.conv_hr, features, leaky=True)
        self._convolution(net.conv_last, features, output=last)

    def _block(self, block: RRDB, entering: str) -> str:
        features = entering
        for dense in block.dense_blocks:
            features = self._dense(dense, features)
        return self._add(Residual(RESIDUAL_SCALING), entering, features)

    def _dense(self, block: ResidualDenseBlock, entering: str) -> str:
        made, features = [entering], entering
        for conv in block.growing:
            made.append(self._convolution(conv, features, leaky=True))
            features = self._add(Concatenation(), *made)
        return self._add(Residual(RESIDUAL_SCALING), entering, self._convolution(block.conv5, features))

    def _convolution(self, conv: object, features: str, *, leaky: bool = False, output: str = "") -> str:
        assert isinstance(conv, Conv3x3)
        return self._add(Convolution(conv, leaky), features, output=output)

    def _add(self, operation: Operation, *inputs: str, output: str = "") -> str:
        node = Node(operation, inputs, output or f"t{len(self.nodes)}")
        self.nodes.append(node)
        return node.output
