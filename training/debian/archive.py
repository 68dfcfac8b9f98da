"""Find the versions of packages in a Debian archive, and download them with a checked hash."""

import hashlib
import io
import lzma
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import BinaryIO
from urllib.error import HTTPError, URLError

from training.debian.errors import BrokenPackage, DebianError

SUITES = ("sid", "testing", "trixie", "bookworm", "bullseye")
"""Where versions are looked for, in this order. Names of releases stay right when another one becomes stable."""
ARCHITECTURES = ("all", "amd64")

MAX_INDEX_BYTES, MAX_INDEX_TEXT = 2**27, 2**30
"""Maximum size of an index, compressed and not; those of Debian 13 have 11 MB and 60 MB."""
MAX_DEB_BYTES = 2**31
"""Maximum size of a .deb file; the largest of the manifest has 914 MB."""

TIMEOUT_S = 30
"""Longest wait for the next bytes."""
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Deb:
    """One version of a package, as an index of the archive describes its file."""

    package: str
    version: str
    filename: str
    """Path below the root of the archive."""
    size: int
    """Bytes of the file."""
    sha256: str


def find_versions(archive: str, packages: Iterable[str], report: Callable[[str], None]) -> dict[str, list[Deb]]:
    """Return the versions of each package in all suites, each once; a suite that the archive lacks is reported.

    The indexes' signatures are not checked: pictures count only if their own hash is that of the manifest.

    Raises:
        DebianError: the address cannot be reached, has no index, or an index cannot be read.
    """
    if not archive.startswith(("http://", "https://")):
        raise DebianError(f"--archive is {archive!r}; it has to start with http:// or https://")
    names, found = frozenset(packages), defaultdict[str, list[Deb]](list)
    missing = []
    for suite in SUITES:
        for architecture in ARCHITECTURES:
            url = f"{archive.rstrip('/')}/dists/{suite}/main/binary-{architecture}/Packages.xz"
            packed = io.BytesIO()
            try:
                _download(url, packed, MAX_INDEX_BYTES)
            except HTTPError as error:
                missing.append(f"{suite}/{architecture} ({error})")
                continue
            for deb in _index(url, packed.getvalue(), names):
                if deb.sha256 not in {known.sha256 for known in found[deb.package]}:
                    found[deb.package].append(deb)
    if len(missing) == len(SUITES) * len(ARCHITECTURES):
        raise DebianError(
            f"--archive {archive} has no index of any suite: {missing[0]}; name the root of a Debian mirror, "
            "the folder that holds dists/ and pool/"
        )
    for name in missing:
        report(f"the archive has no index of {name}; its versions are left out")
    return dict(found)


def download(archive: str, deb: Deb, file: BinaryIO) -> None:
    """Write the file of a version, whose size and hash are those of the index.

    Raises:
        BrokenPackage: the archive has no such file, or another one under its name.
        DebianError: the archive cannot be reached.
    """
    if deb.size > MAX_DEB_BYTES:
        raise BrokenPackage(f"{deb.filename} has {deb.size} bytes; at most {MAX_DEB_BYTES} are downloaded")
    url = f"{archive.rstrip('/')}/{deb.filename}"
    try:
        received = _download(url, file, deb.size)
    except HTTPError as error:
        raise BrokenPackage(f"{url} cannot be downloaded ({error})") from error
    if received != deb.sha256:
        raise BrokenPackage(f"{url} has sha256 {received}, and the index says {deb.sha256}; it is not used")


def _download(url: str, file: BinaryIO, max_bytes: int) -> str:
    """Write the content of a URL, at most `max_bytes`, and return its SHA-256; HTTPError where there is none."""
    digest, received = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            while data := answer.read(CHUNK_BYTES):
                received += len(data)
                if received > max_bytes:
                    raise DebianError(f"{url} is larger than {max_bytes} bytes; try again, or name another mirror")
                digest.update(data)
                file.write(data)  # a full disk is an OSError of its own
            announced = answer.headers.get("Content-Length")
            if announced is not None and int(announced) != received:
                raise ConnectionError(f"it ended after {received} of {announced} bytes")
    except HTTPError:
        raise
    except (URLError, HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        raise DebianError(
            f"{url} cannot be downloaded ({error}); check --archive and the network, then run the same command again: "
            "it continues"
        ) from error
    return digest.hexdigest()


def _index(url: str, packed: bytes, names: frozenset[str]) -> list[Deb]:
    """Read the entries of these packages in a Packages.xz."""
    try:
        with lzma.open(io.BytesIO(packed)) as file:
            text = file.read(MAX_INDEX_TEXT + 1)
        if len(text) > MAX_INDEX_TEXT:
            raise DebianError(f"{url} holds more than {MAX_INDEX_TEXT} bytes of text; name another mirror")
        entries = [_fields(entry) for entry in text.decode().split("\n\n") if _name(entry) in names]
        return [
            Deb(entry["Package"], entry["Version"], entry["Filename"], int(entry["Size"]), entry["SHA256"])
            for entry in entries
        ]
    except (lzma.LZMAError, EOFError, KeyError, ValueError) as error:
        raise DebianError(f"{url} is not an index of packages ({error!r}); name another mirror") from error


def _name(entry: str) -> str:
    return entry.lstrip("\n").partition("\n")[0].removeprefix("Package: ")


def _fields(entry: str) -> dict[str, str]:
    """Fields of one entry; lines that continue a field are left out."""
    lines = (line.partition(": ") for line in entry.splitlines() if line and not line.startswith(" "))
    return {name: value.strip() for name, _, value in lines}
