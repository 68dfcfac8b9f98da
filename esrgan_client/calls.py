"""Functions that both clients share."""

import errno
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import httpx

PictureFile = str | os.PathLike[str]

Pictures = bytes | PictureFile | Sequence[bytes | PictureFile]
"""One picture or several, each as bytes or as a path."""

WAIT_S = 600
"""Maximum seconds for a picture; the limit of the service is usually lower."""

TIMEOUT = httpx.Timeout(30, read=WAIT_S + 30)
"""Timeout of httpx: the answer for a large picture begins only after its turn in the queue."""


def headers_of(key: str) -> Mapping[str, str]:
    """Return the headers of every request.

    Raises:
        ValueError: the key has characters that are not allowed in keys.
    """
    key = key.strip()  # a key read from a file ends with a line break
    if wrong := next((letter for letter in key if not "!" <= letter <= "~"), ""):
        raise ValueError(
            f"the key has the character {wrong!r}, which no key has; copy the whole token and nothing else"
        )
    headers = {"User-Agent": "esrgan-client", "Prefer": f"wait={WAIT_S}"}
    return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def form_of(pictures: Pictures, opened: ExitStack) -> list[tuple[str, bytes | BinaryIO]]:
    """Return the fields of a form; its files stay open until the stack is closed."""
    several = [pictures] if isinstance(pictures, bytes | str | os.PathLike) else pictures
    return [
        ("image", each if isinstance(each, bytes) else opened.enter_context(Path(each).open("rb"))) for each in several
    ]


def target_file(target: PictureFile, source: PictureFile | None = None) -> Path:
    """Check the path of an output file before anything is sent; returns it.

    Args:
        source: file that must not be overwritten.

    Raises:
        OSError: the path is a folder, or its parent is missing.
        ValueError: it is the source.
    """
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; add the name of the file to be written", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder; make it first", str(path.parent))
    if source is not None and path.exists() and path.samefile(source):
        raise ValueError(
            f"{path} is the picture itself ({source}); choose another target, since this one would be lost"
        )
    return path


@contextmanager
def part_file(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file; renamed to the target at the end of the block, removed after an error."""
    part = target.with_name(f".{uuid.uuid4().hex}.part")  # short: a name has at most 255 bytes
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
