"""Download a published weight file and check its hash."""

import hashlib
import os
import tempfile
import urllib.request
from pathlib import Path
from typing import BinaryIO

from model.errors import WeightsError
from model.files.catalogue import CATALOGUE, Published

MAX_BYTES = 2**29
"""Maximum size of a download; all files of the catalogue are far smaller."""

TIMEOUT_S = 30
"""Longest wait for the next bytes."""

CHUNK_BYTES = 2**20


def entry_named(name: str) -> Published:
    """Return the entry of the catalogue with this name.

    Raises:
        WeightsError: there is none.
    """
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in CATALOGUE)
    raise WeightsError(f"there is no {name[:100]!r} in the catalogue; there are {names}")


def fetch(entry: Published, folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Download a file into a folder under the entry's name, unless it is already there.

    The file appears under its name only when it is complete and its hash is right.

    Raises:
        WeightsError: the download fails, is too large, cut off or has another hash; or another file has its name.
    """
    path = folder / f"{entry.name}{entry.suffix}"
    if path.exists():
        if hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256:
            return path
        raise WeightsError(f"{path} exists already and is another file; move it away first")
    folder.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(prefix=f".{entry.name}.", suffix=".unfinished", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _download(entry.url, file, max_bytes)
        if found != entry.sha256:
            raise WeightsError(f"{entry.url} has sha256 {found}, not {entry.sha256}; it is another file, and not kept")
        Path(unfinished).chmod(0o644)  # mkstemp creates private files, and the service may run as another user
        Path(unfinished).replace(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return path


def _download(url: str, file: BinaryIO, max_bytes: int) -> str:
    """Write the content of a URL to a file and return its SHA-256."""
    digest, received = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            announced = answer.headers.get("Content-Length")
            while data := answer.read(CHUNK_BYTES):
                received += len(data)
                if received > max_bytes:
                    raise WeightsError(f"{url} is larger than {max_bytes} bytes; weight files are smaller")
                digest.update(data)
                file.write(data)
    except OSError as error:  # includes those of urllib and of the network
        raise WeightsError(f"{url} cannot be downloaded ({error})") from error
    if announced is not None and int(announced) != received:
        raise WeightsError(f"{url} ended after {received} of {announced} bytes; try again")
    return digest.hexdigest()
