"""A generator in ncnn's format, a `.param` with a `.bin`; `model.files.ncnn` reads it.

A `.bin` holds each convolution in forward order: a flag that tells the format of the weights, the weights padded to 4
bytes, float32 biases. A `.param` is the graph as text, where an output that several layers read goes through a Split.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from model.export.graph import Concatenation, Convolution, Enlargement, Graph, Operation, Residual, Unshuffle
from model.files.ncnn import FLOAT32, MAGIC
from model.rrdb import NEGATIVE_SLOPE, RRDBNet

INPUT, OUTPUT = "data", "output"
"""Names of input and output that programs for published networks expect."""

REPEAT = 1
"""Type of ncnn's Padding layer that repeats the border."""


def write_generator(net: RRDBNet, folder: Path, name: str = "generator") -> tuple[Path, Path]:
    """Write `NAME.param` and `NAME.bin`, with float32 weights; returns both paths.

    The network takes and gives float32 in [0, 1], of as many channels as it has inputs and colours; its sides must be
    multiples of its unshuffle.
    """
    param, weights = folder / f"{name}.param", folder / f"{name}.bin"
    graph = Graph(net, INPUT, OUTPUT)
    lines = list(_layers(graph))
    blobs = sum(int(line.split()[3]) for line in lines)
    param.write_text("\n".join([MAGIC, f"{len(lines)} {blobs}", *lines, ""]))
    with weights.open("wb") as file:
        for node in graph.nodes:
            if isinstance(node.operation, Convolution):
                conv = node.operation.conv.state_dict()
                file.write(FLOAT32.to_bytes(4, "little"))
                file.writelines(conv[name].numpy().astype("<f4").tobytes() for name in ("weight", "bias"))
    return param, weights


def _layers(graph: Graph) -> Iterator[str]:
    """Lines of a `.param`: type, name, numbers of inputs and outputs, their names, parameters."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    unread = {name: [f"{name}_{copy}" for copy in range(count)] for name, count in readers.items() if count > 1}
    splits = {name: f"Split split_{name} 1 {len(copies)} {name} {' '.join(copies)}" for name, copies in unread.items()}
    yield f"Input {INPUT} 0 1 {INPUT}"
    for node in graph.nodes:
        inputs = [unread[name].pop() if name in unread else name for name in node.inputs]
        if _repeats(node.operation):
            padded = f"{node.output}_padded"
            yield f"Padding {padded} 1 1 {inputs[0]} {padded} 0=1 1=1 2=1 3=1 4={REPEAT}"
            inputs = [padded]
        kind, parameters = _described(node.operation)
        yield f"{kind} {node.output} {len(inputs)} 1 {' '.join(inputs)} {node.output} {parameters}"
        if node.output in splits:
            yield splits[node.output]


def _repeats(operation: Operation) -> bool:
    return isinstance(operation, Convolution) and operation.conv.padding_mode == "replicate"


def _described(operation: Operation) -> tuple[str, str]:
    """Type and parameters of a layer, by the numbers that ncnn gives them."""
    match operation:
        case Unshuffle(_, side):
            return "Reorg", f"0={side}"
        case Convolution(conv, leaky):
            padding = 0 if _repeats(operation) else 1
            activation = f"9=2 -23310=1,{NEGATIVE_SLOPE}" if leaky else ""
            return "Convolution", f"0={conv.out_channels} 1=3 4={padding} 5=1 6={conv.weight.numel()} {activation}"
        case Concatenation():
            return "Concat", ""
        case Residual(factor):
            return "Eltwise", f"0=1 -23301=2,1.0,{factor}"
        case Enlargement(factor):
            return "Interp", f"0=1 1={factor:.1f} 2={factor:.1f}"
