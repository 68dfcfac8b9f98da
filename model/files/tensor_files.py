"""`.safetensors` files, without the library's own reader, which maps the file into memory."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from model.errors import WeightsError, one_line
from model.files.weight_bytes import weight_bytes


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """Content of a `.safetensors` file."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    sha256: str


def read_tensors(path: Path, content: bytes | None = None) -> TensorFile:
    """Read a `.safetensors` file.

    Args:
        content: its bytes, if they have been read.

    Raises:
        UnreadableError: it cannot be read at the moment.
        WeightsError: it is not such a file.
    """
    content = weight_bytes(path) if content is None else content
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:  # the last two for huge shapes
        raise WeightsError(f"{path} is not a readable .safetensors file ({one_line(error)})") from error
    metadata = header.get("__metadata__") or {}
    return TensorFile(metadata=metadata, tensors=tensors, sha256=hashlib.sha256(content).hexdigest())
