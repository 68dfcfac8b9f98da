"""Downloads a published weight file: the right one, whole, or nothing."""

import hashlib
import os
import tempfile
import urllib.request
from pathlib import Path
from typing import BinaryIO

from model.errors import WeightsError
from model.files.catalogue import CATALOGUE, Published

LARGEST_BYTES = 2**29
"""No file of the catalogue comes near this; a server that sends more sends something else."""

TIMEOUT_S = 30
"""Without a byte."""

AT_ONCE_BYTES = 2**20


def entry_named(name: str) -> Published:
    """The entry of the catalogue with this name.

    Raises:
        WeightsError: there is none.
    """
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in CATALOGUE)
    raise WeightsError(f"there is no {name[:100]!r} in the catalogue; there are {names}")


def fetch(entry: Published, folder: Path, *, largest_bytes: int = LARGEST_BYTES) -> Path:
    """Download a file into a folder, under the entry's name; where it lies already nothing is downloaded.

    The file appears under its name when all of it is there and its hash is right, not before.

    Raises:
        WeightsError: it cannot be downloaded, is too large, cut off, or not the file of the catalogue; or another file
            has its name.
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
            found = _download(entry.url, file, largest_bytes)
        if found != entry.sha256:
            raise WeightsError(f"{entry.url} has sha256 {found}, not {entry.sha256}; it is another file, and not kept")
        Path(unfinished).chmod(0o644)  # the library makes it private, and the service may run as another user
        Path(unfinished).replace(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return path


def _download(url: str, file: BinaryIO, largest_bytes: int) -> str:
    """Write what lies at an address into a file; returns its SHA-256."""
    digest, received = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            announced = answer.headers.get("Content-Length")
            while data := answer.read(AT_ONCE_BYTES):
                received += len(data)
                if received > largest_bytes:
                    raise WeightsError(f"{url} is larger than {largest_bytes} bytes; that is no weight file")
                digest.update(data)
                file.write(data)
    except OSError as error:  # of which urllib's and the network's errors are kinds
        raise WeightsError(f"{url} cannot be downloaded ({error})") from error
    if announced is not None and int(announced) != received:
        raise WeightsError(f"{url} ended after {received} of {announced} bytes; try again")
    return digest.hexdigest()
