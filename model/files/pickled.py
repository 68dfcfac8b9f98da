"""PyTorch's own files (`.pth`, `.pt`, `.ckpt`, ...): pickles, which can contain code; none of it is ever run.

`torch.load(weights_only=True)` creates only tensors and containers, but does not limit their size: by compression, or
by tensors that repeat one number, a file of a few kilobytes can expand to terabytes. Such files are refused first.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.errors import WeightsError, one_line
from model.files.weight_bytes import weight_bytes

MAX_DEPTH = 8
"""Maximum nesting of dictionaries; training frameworks need three."""

MAX_TENSORS = 100_000

SIZES = "esrgan-serve"
"""Key of our training states for the properties of a network that weights do not show."""

PICKLE = b"\x80"
"""First byte of every pickle that PyTorch writes outside of a zip archive."""

ZIP = b"PK\x03\x04"
"""First bytes of a zip archive."""

INCOMPLETE = "ends early; download it again"

CODE = re.compile(
    r"(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class|Unsupported operand|Trying to call reduce)"
    r"[ :]*(\S*)",
    re.IGNORECASE,
)
"""Pattern of torch's errors for files that contain more than tensors."""

TAR_SIGN = slice(257, 262)
"""Position of the signature in PyTorch's oldest format."""


@dataclass(frozen=True, kw_only=True)
class PickledFile:
    """Content of a PyTorch file."""

    tensors: dict[str, Tensor]
    """Tensors by the keys that lead to each, joined by dots."""
    sizes: Mapping[str, object]
    """Value of `SIZES` in the state of a training run; empty for other files."""


def read_pickled(path: Path, content: bytes | None = None) -> PickledFile:
    """Read all tensors of a file.

    Args:
        content: its bytes, if they have been read.

    Raises:
        UnreadableError: it cannot be read at the moment.
        WeightsError: it is not such a file, contains code, or its tensors are larger than the file.
    """
    content = weight_bytes(path) if content is None else content
    file, size_bytes = io.BytesIO(content), len(content)
    try:
        _refuse_other_archives(path, file, size_bytes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, which are read anyway
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # torch, pickle and zip raise all kinds of errors for broken files
        raise WeightsError(f"{path} {_reason(error)}") from error
    tensors = dict(_tensors(loaded))
    _refuse_foreign_tensors(tensors, size_bytes, path)
    said = loaded.get(SIZES) if isinstance(loaded, Mapping) else None
    return PickledFile(tensors=tensors, sizes=said if isinstance(said, Mapping) else {})


def _refuse_other_archives(path: Path, content: io.BytesIO, size_bytes: int) -> None:
    if not zipfile.is_zipfile(content):
        start = content.getvalue()[: TAR_SIGN.stop]
        if start.startswith(ZIP):
            raise WeightsError(f"{path} {INCOMPLETE}")
        if not start.startswith(PICKLE) and start[TAR_SIGN] != b"ustar":
            raise WeightsError(f"{path} is not a PyTorch file: it begins with {start[:8].hex(' ')}")
        content.seek(0)
        return
    with zipfile.ZipFile(content) as archive:
        entries = archive.infolist()
    content.seek(0)
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        names = ", ".join(repr(entry.filename[:60]) for entry in entries[:3]) or "nothing"
        raise WeightsError(f"{path} is a zip archive of {names}; unpack it")
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise WeightsError(f"{path} is a TorchScript program, which carries code; save its state_dict() instead")
    if sum(entry.file_size for entry in entries) > size_bytes:
        raise WeightsError(f"{path} unpacks to more than its {size_bytes} bytes; weight files are not compressed")


def _tensors(content: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries with their names.

    Each dictionary is entered once, so that dictionaries that contain each other many times cannot multiply: twenty
    levels of two references to the next one would be a million names.
    """
    entered: set[int] = set()
    waiting: list[tuple[str, object, int]] = [("", content, 0)]
    found = 0
    while waiting and found <= MAX_TENSORS:
        name, one, depth = waiting.pop()
        if isinstance(one, Tensor):
            found += 1
            yield name, one
        elif isinstance(one, Mapping) and depth < MAX_DEPTH and id(one) not in entered:
            entered.add(id(one))
            inner = [(f"{name}.{key}" if name else str(key), value, depth + 1) for key, value in one.items()]
            waiting += reversed(inner)


def _refuse_foreign_tensors(tensors: Mapping[str, Tensor], size_bytes: int, path: Path) -> None:
    for name, one in tensors.items():
        if one.layout is not torch.strided or one.device.type != "cpu" or one.is_quantized:
            raise WeightsError(f"{path}: {name[:100]} is not a plain tensor but {one.layout} on {one.device}")
        if one.numel() * one.element_size() > size_bytes:
            raise WeightsError(f"{path}: {name[:100]} of {tuple(one.shape)} is larger than the whole file")


def _reason(error: Exception) -> str:
    """Describe an error in one line, without torch's advice to trust the file."""
    text = one_line(error, most=2000)
    if found := CODE.search(text):
        return f"carries code or objects ({found[1] or found[0]}), which are never run; save its state_dict() alone"
    if "legacy .tar" in text:
        return "is in PyTorch's oldest format (tar), which cannot be read without running code; save it again"
    if isinstance(error, EOFError):
        return INCOMPLETE
    if "weights_only" in text:
        text = text.partition("WeightsUnpickler error: ")[2] or "its content is not understood"
    return f"is not a readable PyTorch file ({type(error).__name__}: {text[:200]})"
