"""`.safetensors` files, read whole before anything is made of them.

The library's own reader maps the file into memory. Whoever overwrites or cuts short such a file takes the ground from
under the network that was read from it, and the process dies of a bus error.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from model.errors import WeightsError


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """What a `.safetensors` file holds."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    sha256: str


def read_tensors(path: Path) -> TensorFile:
    """Read a `.safetensors` file.

    Raises:
        WeightsError: it cannot be read, or is none.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is not a readable .safetensors file ({error})") from error
    metadata = header.get("__metadata__") or {}
    return TensorFile(metadata=metadata, tensors=tensors, sha256=hashlib.sha256(content).hexdigest())
