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
    """What a `.safetensors` file holds."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    sha256: str


def read_tensors(path: Path) -> TensorFile:
    """Read a `.safetensors` file.

    Raises:
        UnreadableError: it cannot be read at the moment.
        WeightsError: it is no such file.
    """
    content = weight_bytes(path)
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is not a readable .safetensors file ({one_line(error)})") from error
    metadata = header.get("__metadata__") or {}
    return TensorFile(metadata=metadata, tensors=tensors, sha256=hashlib.sha256(content).hexdigest())
