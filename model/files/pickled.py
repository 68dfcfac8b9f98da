"""PyTorch's own files (`.pth`, `.pt`, `.ckpt`, ...): pickles, which can contain code; none of it is ever run.

A file of a few kilobytes can expand to terabytes: by compression, by names that many tensors share, or by tensors that
repeat one number. Such files are refused.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from model.errors import WeightsError, one_line
from model.files.unpickling import CodeError, Interpreter, Place, SkippedCall, Storage
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

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of the format before zip."""

TAR_SIGN = slice(257, 262)
"""Position of the signature in PyTorch's oldest format."""

Stored = Callable[[Storage], bytes | memoryview]
"""Returns the bytes of a whole storage."""


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
        WeightsError: it is not such a file, contains code, or its tensors or their names are larger than the file.
    """
    content = weight_bytes(path) if content is None else content
    with _refusals(path):
        loaded, stored = _from_zip(content) if content.startswith(ZIP) else _from_pickles(content)
        tensors = _tensors(dict(_places(loaded, len(content))), stored)
        for name, one in tensors.items():
            if one.nbytes > len(content):
                raise WeightsError(f"holds {name[:100]} of {tuple(one.shape)}, which is larger than the whole file")
    said = loaded.get(SIZES) if isinstance(loaded, dict) else None
    sizes = said if isinstance(said, dict) else {}
    return PickledFile(tensors=tensors, sizes={name: one for name, one in sizes.items() if isinstance(one, str | int)})


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn the errors of a block into ours, with the name of the file."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error
    except CodeError as error:
        text = f"carries code or objects ({one_line(error)}), which are never run; save its state_dict() alone"
        raise WeightsError(f"{path} {text}") from error
    except EOFError as error:
        raise WeightsError(f"{path} {INCOMPLETE}") from error
    except Exception as error:  # pickletools, zipfile and torch raise all kinds of errors for broken files
        text = f"is not a readable PyTorch file ({type(error).__name__}: {one_line(error)})"
        raise WeightsError(f"{path} {text}") from error


def _from_zip(content: bytes) -> tuple[object, Stored]:
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        raise WeightsError(INCOMPLETE)
    archive = zipfile.ZipFile(file)
    entries = {entry.filename: entry for entry in archive.infolist()}
    name = next((name for name in entries if name.endswith("data.pkl")), None)
    if name is None:
        names = ", ".join(repr(name[:60]) for name in list(entries)[:3]) or "nothing"
        raise WeightsError(f"is a zip archive of {names}; unpack it")
    folder = name.removesuffix("data.pkl")
    if f"{folder}constants.pkl" in entries:
        raise WeightsError("is a TorchScript program, which carries code; save its state_dict() instead")
    if sum(entry.file_size for entry in archive.infolist()) > len(content):
        raise WeightsError(f"unpacks to more than its {len(content)} bytes; weight files are not compressed")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise WeightsError("is compressed inside, as weight files are not; save it again by torch.save")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise WeightsError("has its bytes in big-endian order; save it again on another machine")
    loaded = Interpreter().load(io.BytesIO(archive.read(name)))
    return loaded, lambda storage: archive.read(f"{folder}data/{storage.key}")


def _from_pickles(content: bytes) -> tuple[object, Stored]:
    """Read the format before zip: five pickles, the fourth with the content, and the storages in the order of the last.

    Each storage begins with its length as a 64-bit number.
    """
    if content[TAR_SIGN] == b"ustar":
        raise WeightsError(
            "is in PyTorch's oldest format (tar), which cannot be read without running code; save it again"
        )
    if not content.startswith(PICKLE):
        raise WeightsError(f"is not a PyTorch file: it begins with {content[:8].hex(' ')}")
    file, interpreter = io.BytesIO(content), Interpreter()
    if interpreter.load(file) != MAGIC:
        raise WeightsError("is a pickle, but not a PyTorch file; save it by torch.save")
    _, _, loaded, keys = (interpreter.load(file) for _ in range(4))
    parts: dict[str, slice] = {}
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str):
            raise WeightsError("has a broken list of its storages; save it again")
        count = int.from_bytes(file.read(8), "little")
        begin = file.tell()
        if file.seek(count * interpreter.storages[key].dtype.itemsize, io.SEEK_CUR) > len(content):
            raise EOFError
        parts[key] = slice(begin, file.tell())
    return loaded, lambda storage: memoryview(content)[parts[storage.key]]


def _places(content: object, max_letters: int) -> Iterator[tuple[str, Place]]:
    """Yield the places of the tensors of nested dictionaries with their names.

    Each dictionary is entered once, so that dictionaries that contain each other many times cannot multiply: twenty
    levels of two references to the next one would be a million names.

    Args:
        max_letters: maximum total length of the names: every tensor below a long key repeats it in its name.
    """
    entered: set[int] = set()
    waiting: list[tuple[str, object, int]] = [("", content, 0)]
    found = 0
    while waiting and found <= MAX_TENSORS:
        name, one, depth = waiting.pop()
        if isinstance(one, SkippedCall) and "_rebuild_" in one.function:
            raise WeightsError(f"holds {name[:100]}, which is not a plain tensor ({one.function[:100]})")
        if isinstance(one, Place):
            found += 1
            yield name, one
        elif isinstance(one, dict) and depth < MAX_DEPTH and id(one) not in entered:
            entered.add(id(one))
            max_letters -= sum(len(name) + 1 + len(key) for key in one)
            if max_letters < 0:
                raise WeightsError("has names that are longer than the whole file; rename its weights")
            inner = [(f"{name}.{key}" if name else key, value, depth + 1) for key, value in one.items()]
            waiting += reversed(inner)


def _tensors(places: Mapping[str, Place], stored: Stored) -> dict[str, Tensor]:
    """Take tensors out of their storages; each storage is copied once."""
    copies: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for name, place in places.items():
        storage = place.storage
        if storage.key not in copies:
            copies[storage.key] = torch.from_numpy(numpy.frombuffer(bytearray(stored(storage)), numpy.uint8))
        begin, end = (number * storage.dtype.itemsize for number in (storage.begin, storage.begin + storage.count))
        numbers = copies[storage.key][begin:end].view(storage.dtype)
        tensors[name] = numbers.as_strided(place.size, place.stride, numbers.storage_offset() + place.offset)
    return tensors
