"""Read any weight file that can serve, in any format and dialect.

Our own `.safetensors` files describe themselves. Nothing in other files is trusted, not even the suffix: the first
bytes show the format, and the shapes of the weights the sizes. All of them get the same golden picture, which is
upscaled in float32 when the file is read.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from model.errors import OtherNetworkError, WeightsError
from model.files.catalogue import published_as
from model.files.checkpoint import FORMAT, NAME, Card, Checkpoint, read_checkpoint, reference_output
from model.files.dialects import generator, recognised
from model.files.foreign import ForeignCheckpoint, foreign_network
from model.files.ncnn import compact_tensors_of, padding_of, read_graph, refuse_other_graph, scale_of, tensors_of
from model.files.pickled import read_pickled
from model.files.tensor_files import TensorFile, read_tensors
from model.files.weight_bytes import readable, weight_bytes
from model.rrdb import PaddingMode, RRDBNet

SUFFIXES = (".safetensors", ".pth.tar", ".pth", ".pt", ".ckpt", ".pkl", ".bin", ".param")
"""Suffixes of files that are read; a `.bin` next to a `.param` belongs to it."""

GOLDEN_SIZE = (21, 26)
"""Height and width of the golden picture of foreign files: odd, so that networks with an unshuffle must pad."""


AnyCheckpoint = Checkpoint | ForeignCheckpoint


def read_any(path: Path, *, scale: int | None = None) -> AnyCheckpoint:
    """Read a weight file of any architecture and check that it can serve.

    Args:
        scale: see `read`.

    Raises:
        UnreadableError: it cannot be read at the moment.
        WeightsError: it contains code, is broken, or has an unknown architecture.
    """
    contents = _contents(path)
    try:
        return _read(path, contents, scale)
    except OtherNetworkError as error:
        text, tensors = str(error), error.tensors
    try:
        net = foreign_network(tensors)
        if suffix_of(path) == ".param":
            refuse_other_graph(read_graph(path, *contents), net.inner)
    except WeightsError as error:
        raise WeightsError(f"{text}; {error}") from error
    golden, sha256 = golden_picture(), _sha256(contents)
    return ForeignCheckpoint(
        net=net,
        card=_card(path, sha256),
        sha256=sha256,
        golden_input=golden,
        golden_output=net(golden[None] / 255)[0].mul(255).round().to(torch.uint8),
        format=f"{net.architecture} (spandrel), {suffix_of(path)}",
    )


def read(path: Path, *, scale: int | None = None) -> Checkpoint:
    """Read the weight file of an ESRGAN generator and check that it can serve.

    Args:
        scale: scale of a foreign network; only needed for x3, whose weights look like those of x2.

    Raises:
        UnreadableError: it cannot be read at the moment.
        WeightsError: its format or dialect is unknown, it contains code, or it is broken.
    """
    return _read(path, _contents(path), scale)


def golden_picture() -> Tensor:
    """Return a small picture with slopes, edges and fine detail, always the same: uint8 RGB (3, H, W)."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in GOLDEN_SIZE), indexing="ij")
    slopes = torch.stack((8 * columns + 20, 9 * rows + 30, 5 * (rows + columns)))
    edges = 60 * ((rows // 5 + columns // 6) % 2)
    detail = (rows * rows * 7 + columns * columns * 13 + rows * columns * 3) % 31
    return (slopes + edges - detail).clamp(0, 255).to(torch.uint8)


def sha256_of(path: Path) -> str:
    """Return the hash of a file; that of an ncnn pair is over the `.param`, then the `.bin`."""
    return _sha256(_contents(path))


def model_name(path: Path) -> str:
    """Return the model name of a foreign file: its own name without characters that model names cannot have."""
    stem = path.name.removesuffix(path.name[-len(suffix_of(path) or path.suffix) :])
    name = re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-._")[:100]
    return name if NAME.fullmatch(name) else "unnamed"


def suffix_of(path: Path) -> str:
    """Return the suffix of a weight file, in lower case; empty if the file has another one."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def _contents(path: Path) -> tuple[bytes, ...]:
    """Read a file once, so that its hash is that of the weights; of an ncnn pair both files, the `.param` first."""
    if not (suffix := suffix_of(path)):
        if path.is_dir():
            raise WeightsError(f"{path} is a folder; name one of its files")
        raise WeightsError(f"{path} is not a kind of file that can be read; these are {', '.join(SUFFIXES)}")
    if suffix != ".param":
        return (weight_bytes(path),)
    weights = path.with_suffix(".bin")
    with readable(path):
        if path.exists() != weights.exists():
            raise WeightsError(f"{path} needs {path.name} and {weights.name} side by side")
    return weight_bytes(path, text=True), weight_bytes(weights)


def _sha256(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _read(path: Path, contents: tuple[bytes, ...], scale: int | None = None) -> Checkpoint:
    """See `read`."""
    file = _tensor_file(path, contents[0])
    if file and file.metadata.get("format", "").startswith(FORMAT.partition("/")[0] + "/"):
        return read_checkpoint(path, file)
    net, dialect = _network(path, contents, file, scale)
    golden, sha256 = golden_picture(), _sha256(contents)
    return Checkpoint(
        net=net,
        card=_card(path, sha256),
        sha256=sha256,
        golden_input=golden,
        golden_output=reference_output(net, golden),
        format=dialect,
    )


def _tensor_file(path: Path, content: bytes) -> TensorFile | None:
    """Read a `.safetensors` file, whatever its suffix is; None for a file of another format."""
    if suffix_of(path) == ".param":
        return None
    has_header = content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content)
    broken = suffix_of(path) == ".safetensors" and not content.startswith((b"PK", b"\x80"))  # its reader says how
    return read_tensors(path, content) if has_header or broken else None


def _card(path: Path, sha256: str) -> Card:
    known = published_as(sha256)
    with readable(path):
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Card(
        name=model_name(path),
        recipe="unknown",
        steps=0,
        data="unknown",
        metrics={},
        created=changed.date().isoformat(),
        licence=known.licence if known else "",
        source=known.url if known else "",
    )


def _network(
    path: Path, contents: tuple[bytes, ...], file: TensorFile | None, scale: int | None
) -> tuple[RRDBNet, str]:
    """Read the generator of a file, and the name of its dialect.

    Args:
        file: the content of a `.safetensors` file.
    """
    if (suffix := suffix_of(path)) == ".param":
        graph = read_graph(path, *contents)
        with _naming(path):
            compact = compact_tensors_of(graph)
            if compact is None:
                net = generator(tensors_of(graph), scale_of(graph) or scale, padding_of(graph))
                refuse_other_graph(graph, net, inputs=net.config.inputs, unshuffle=net.config.unshuffle)
                return net, "ncnn"
        raise OtherNetworkError(f"{path} is an SRVGG network, not ESRGAN's", compact)
    sizes: Mapping[str, object] = {}
    if file is None:
        pickled = read_pickled(path, contents[0])
        tensors, sizes = pickled.tensors, pickled.sizes
    else:
        tensors = file.tensors
    with _naming(path, tensors):
        if found := recognised(tensors, in_order=file is None):
            scale = 3 if sizes.get("scale") == 3 else scale
            padding_mode = cast(PaddingMode, sizes.get("padding_mode", "zeros"))  # which the config checks
            return generator(found[1], scale, padding_mode), f"{found[0]}, {suffix}"
    names = ", ".join(repr(name[:60]) for name in list(tensors)[:3]) or "nothing"
    raise OtherNetworkError(f"{path} holds no network of ESRGAN's kind; its weights are {names}, ...", tensors)


@contextmanager
def _naming(path: Path, tensors: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Add the name of a file to errors about its weights.

    Args:
        tensors: the weights as they are in the file, for readers of other architectures; None if there are no others.
    """
    try:
        yield
    except WeightsError as error:
        if tensors is not None and isinstance(error, OtherNetworkError):
            raise OtherNetworkError(f"{path} {error}", tensors) from error
        raise WeightsError(f"{path} {error}") from error
