"""Read the bytes of a weight file, and recognise other kinds of files, so that errors can name them.

The file is read completely before its content is used: a file that is mapped into memory, or read in parts, can change
while the network is built from it. If a mapped file is cut short, the process dies of a bus error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import UnreadableError, WeightsError, one_line

MAX_BYTES = 2**30
"""Maximum size of a file: far more than any network that can serve, and little enough to be read into memory."""

HEAD_BYTES = 512
"""Length of the beginning that is checked for text."""

TEXTS = (
    ("version https://git-lfs", "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
    ("/annex/objects/", "is a git-annex pointer, not the file itself; run `git annex get`"),
    ("<!doctype html", "is a web page, not weights; download the file that the page links to"),
    ("<html", "is a web page, not weights; download the file that the page links to"),
    ("<", "is XML or a web page, not weights; download the file itself"),
    ("{", "is JSON text, not weights; download the file itself"),
    ("[", "is JSON text, not weights; download the file itself"),
)
"""First characters, in lower case, of texts that are often saved instead of weight files."""

BINARIES = (
    (b"\x1f\x8b", "is compressed by gzip; unpack it"),
    (b"BZh", "is compressed by bzip2; unpack it"),
    (b"\xfd7zXZ\x00", "is compressed by xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "is a RAR archive; unpack it"),
    (b"\x89PNG", "is a picture, not weights"),
    (b"\xff\xd8\xff", "is a picture, not weights"),
    (b"\x89HDF", "is an HDF5 file, as Keras writes them; save the weights with PyTorch or safetensors"),
    (b"GGUF", "is a GGUF file; save the weights with PyTorch or safetensors"),
)
"""First bytes of other kinds of files."""


def weight_bytes(path: Path, *, text: bool = False) -> bytes:
    """Read a file.

    Args:
        text: the file is expected to be a text, as ncnn's `.param` is.

    Raises:
        UnreadableError: it cannot be read at the moment.
        WeightsError: it is a pipe or a device, is empty, larger than `MAX_BYTES`, or plainly not a weight file.
    """
    with readable(path):
        if path.is_fifo() or path.is_char_device():  # reading may never end
            raise WeightsError(f"{path} is a pipe or a device, not weights; put the file itself there")
        if (size_bytes := path.stat().st_size) > MAX_BYTES:
            raise WeightsError(f"{path} has {size_bytes} bytes; weight files of at most {MAX_BYTES} are read")
        content = path.read_bytes()
    if known := _something_else(content, text=text):
        raise WeightsError(f"{path} {known}")
    return content


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of the system in a block into ours.

    Raises:
        UnreadableError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read ({one_line(error)})") from error


def _something_else(content: bytes, *, text: bool) -> str | None:
    if not content:
        return "is empty; download it again"
    for start, known in BINARIES:
        if content.startswith(start):
            return known
    head = _text(content[:HEAD_BYTES])
    for begin, known in TEXTS if head else ():
        if head.lower().startswith(begin):
            return known
    return None if text or not head else f"is a text that begins with {head[:40]!r}, not weights; download it again"


def _text(head: bytes) -> str:
    """Decode the first bytes as text, without leading blanks; empty if they are not text."""
    try:
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) - error.start > 3:  # not just a character that is cut off at the end
            return ""
        text = head.decode("utf-8-sig", errors="ignore")
    return text.strip() if all(one.isprintable() or one in "\t\n\r\f" for one in text) else ""
