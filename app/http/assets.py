"""Static files of pages: scripts and styles with a hash of their content in the URL, and HTML that refers to them."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from fastapi import Request, Response

from app.http.conditional import etag_of, unchanged
from app.http.fields import members

STATIC = Path(__file__).parent / "static"
"""Folder of static files: one subfolder per page, and one per package copied from npm."""

MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""Media types by suffix. Other files are not served: licences, manifests, and HTML, which has its own URLs."""

PACKED = {".css", ".js", ".svg"}
"""Suffixes of files that are sent compressed if the caller accepts it."""

FOR_EVER = "public, max-age=31536000, immutable"
"""Cache-Control of files at the URL of their content: other content has another URL."""

ONCE = "no-store"
"""Cache-Control of files at the URL of another version: a page of one replica may request scripts from a newer one."""

ONLY_OURS: Mapping[str, str] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers that keep pages of other origins from embedding our pages and scripts."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: no inline scripts or styles, no other origins; scripts may create pictures."""


@dataclass(frozen=True)
class Folder:
    """The files of one folder, by name."""

    name: str
    files: Mapping[str, bytes]

    @cached_property
    def version(self) -> str:
        """Name of the folder in URLs: its name and a hash of all its files, since they may refer to each other."""
        digest = hashlib.blake2b(digest_size=8)
        for name, content in sorted(self.files.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        return f"{self.name}-{digest.hexdigest()}"


class Assets:
    """All static files, read once.

    HTML refers to them as `assets/FOLDER/FILE`, relative to the root of the service, so that pages work below any
    prefix. Scripts refer to files of the same folder as `./FILE`.
    """

    def __init__(self, static: Path = STATIC) -> None:
        self._static = static
        self._folders = {path.name: Folder(path.name, _served(path)) for path in static.iterdir() if path.is_dir()}

    def answer(self, request: Request, version: str, name: str) -> Response | None:
        """Return a file, or None for an unknown folder or name. May block to compress it, once."""
        folder = self._folders.get(version.rpartition("-")[0])
        if folder is None or name not in folder.files:
            return None
        suffix = Path(name).suffix
        packed = suffix in PACKED and _accepts_gzip(request)
        headers = {"ETag": f'"{folder.version}{"-gzip" * packed}"', "Vary": "Accept-Encoding", **ONLY_OURS}
        headers["Cache-Control"] = FOR_EVER if version == folder.version else ONCE
        if packed:
            headers["Content-Encoding"] = "gzip"
        if (same := unchanged(request, headers)) is not None:
            return same
        content = folder.files[name]
        body = _packed(content) if packed else content
        return Response(body, media_type=MEDIA_TYPES[suffix], headers=headers)

    def page(self, path: str) -> "Page":
        """Read a page, and put the hash of the content into its URLs of static files.

        Args:
            path: HTML file, such as `docs/index.html`.
        """
        html = (self._static / path).read_text(encoding="utf-8")
        for folder in self._folders.values():
            html = html.replace(f'"assets/{folder.name}/', f'"assets/{folder.version}/')
        return Page(html.encode())


class Page:
    """An HTML page."""

    def __init__(self, html: bytes) -> None:
        self.html = html
        self._headers = {
            "ETag": etag_of(html + POLICY.encode()),
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            **ONLY_OURS,
        }

    def answer(self, request: Request) -> Response:
        """Return the page, or 304 if the caller has it."""
        return unchanged(request, self._headers) or Response(
            self.html, media_type="text/html; charset=utf-8", headers=self._headers
        )


def _served(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in MEDIA_TYPES}


def _accepts_gzip(request: Request) -> bool:
    codings = members(request.headers, "accept-encoding")
    return any(coding.replace(" ", "").lower() in ("gzip", "gzip;q=1", "gzip;q=1.0") for coding in codings)


@lru_cache(maxsize=256)
def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
