"""Read pictures inside other files: zip archives (.pk3, .sh3f), Qt resources (.rcc), Enlightenment themes (.edj)."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Container, Iterator

from training.debian.errors import BrokenPackage

MAX_PICTURE_BYTES = 2**28
"""Maximum size of a picture inside."""
MAX_DEPTH = 64
"""Deepest folder of a Qt resource."""

_COMPRESSED, _FOLDER, _ZSTD = 1, 2, 4
"""Flags of an entry of a Qt resource."""


def read_pictures(container: str, data: bytes, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of these pictures.

    Raises:
        BrokenPackage: the container cannot be read.
    """
    try:
        if container.endswith(".rcc"):
            yield from _resource(data, names)
        elif container.endswith(".edj"):
            yield from _theme(data, names)
        else:
            yield from _zip(data, names)
    except (struct.error, IndexError, ValueError, zlib.error, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        raise BrokenPackage(f"{container} cannot be read ({error})") from error


def _zip(data: bytes, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.filename in names and entry.file_size <= MAX_PICTURE_BYTES:
                yield entry.filename, archive.read(entry)


def _theme(data: bytes, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Yield JPEG files, named by the offset of their first byte: an .edj stores them whole, without a simple table."""
    for start in re.finditer(rb"\xff\xd8\xff[\xe0\xe1\xdb]", data):
        name = f"jpeg_at_{start.start()}.jpg"
        if name in names:
            yield name, data[start.start() :]


def _resource(data: bytes, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Walk the tree of Qt's binary resources (`rcc --binary`, versions 1 to 3)."""
    if data[:4] != b"qres":
        raise BrokenPackage("it is no Qt resource: the first bytes are others")
    version, tree, contents, texts = struct.unpack(">4I", data[4:20])
    entry_bytes = 22 if version >= 2 else 14
    folders = [(0, "", 0)]
    while folders:
        node, folder, depth = folders.pop()
        _, _, count, first = struct.unpack_from(">IH2I", data, tree + node * entry_bytes)
        for index in range(first, first + count):
            at = tree + index * entry_bytes
            text, flags, *position = struct.unpack_from(">IH2I", data, at)
            path = f"{folder}/{_text(data, texts + text)}".lstrip("/")
            if flags & _FOLDER and depth < MAX_DEPTH:
                folders.append((index, path, depth + 1))
            elif not flags & (_FOLDER | _ZSTD) and path in names:
                yield path, _content(data, contents + position[1], bool(flags & _COMPRESSED))


def _text(data: bytes, at: int) -> str:
    (characters,) = struct.unpack_from(">H", data, at)
    return data[at + 6 : at + 6 + 2 * characters].decode("utf-16-be")


def _content(data: bytes, at: int, compressed: bool) -> bytes:
    (size,) = struct.unpack_from(">I", data, at)
    content = data[at + 4 : at + 4 + size]
    return zlib.decompressobj().decompress(content[4:], MAX_PICTURE_BYTES) if compressed else content
