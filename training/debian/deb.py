"""Read the files inside a .deb, which is an `ar` file that holds data.tar.xz."""

import io
import lzma
import tarfile
import zlib
from collections.abc import Container, Iterator
from typing import BinaryIO, Literal

from training.debian.errors import BrokenPackage

MAGIC = b"!<arch>\n"
HEADER_BYTES = 60
MAX_FILE_BYTES = 2**30
"""Maximum size of a file inside; it is read into memory."""

_MODES: dict[str, Literal["r|", "r|gz", "r|bz2", "r|xz", "r|zst"]] = {
    "data.tar": "r|",
    "data.tar.gz": "r|gz",
    "data.tar.bz2": "r|bz2",
    "data.tar.xz": "r|xz",
    "data.tar.zst": "r|zst",  # from Python 3.14; Debian's archive uses xz
}


def read_files(file: BinaryIO, paths: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of these regular files, in the order of the package.

    Raises:
        BrokenPackage: the file is no .deb, is cut off, or its compression cannot be read.
    """
    name, part = _data(file)
    if name not in _MODES:
        raise BrokenPackage(f"{name} in the .deb is compressed in an unknown way; known are {', '.join(_MODES)}")
    try:
        with tarfile.open(fileobj=part, mode=_MODES[name]) as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                if not member.isreg() or path not in paths:
                    continue
                if member.size > MAX_FILE_BYTES:
                    raise BrokenPackage(f"{path} has {member.size} bytes; at most {MAX_FILE_BYTES} are read")
                content = tar.extractfile(member)
                if content is not None:
                    yield path, content.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise BrokenPackage(f"{name} in the .deb cannot be read ({error})") from error


class _Part(io.RawIOBase):
    """The bytes of one member of an `ar` file, from here on."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _data(file: BinaryIO) -> tuple[str, _Part]:
    """Find the member with the files of the package: its name and its bytes."""
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise BrokenPackage("it is no .deb: the first bytes are others")
    while len(header := file.read(HEADER_BYTES)) == HEADER_BYTES:
        name, size = header[:16].decode("latin-1").strip().rstrip("/"), header[48:58].strip()
        if not size.isdigit():
            break
        if name.startswith("data.tar"):
            return name, _Part(file, int(size))
        file.seek(int(size) + int(size) % 2, 1)  # members start at even bytes
    raise BrokenPackage("it is no .deb: there is no data.tar inside")
