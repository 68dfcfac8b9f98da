"""Reads and writes XMP: RDF in XML. An answer repeats only properties that are still true of it.

A packet is parsed as XML and written again. Names are recognised by the URI of their namespace, whatever their prefix.
An attribute or element that is on no list of `xmp_names.py` is dropped with everything in it, at any depth.

XMP specification, parts 1 (ISO 16684-1) and 3, on the extended packets of JPEG.
"""

import codecs
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from app.pictures.xmp_names import KEPT, LOCATION, Names

MAX_BYTES = 2**20
"""Maximum bytes of a packet: parsing a million attributes of one element would block all other threads."""
MAX_DEPTH = 64
"""Maximum nesting of elements; deeper ones are dropped."""

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # starts like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ENCODINGS_BY_ZEROS = {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}
"""Encodings by which of the first four bytes are zero, given that the first characters are ASCII."""

EXTENSION_NAME = b"http://ns.adobe.com/xmp/extension/\0"
"""Precedes a part of an extended packet in a JPEG; followed by an ID of 32 bytes, the total size, and an offset."""

EXTENSION_ID = re.compile(r"""HasExtendedXMP[\s="'>]{1,9}([0-9A-Fa-f]{32})""")

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XML, XMLNS = "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"
Name = tuple[str, str]
"""URI of the namespace, and local name."""
RDF_ROOT: Name = (RDF, "RDF")
ELEMENTS: Mapping[Name, str] = {
    (RDF, name): f"rdf:{name}" for name in ("Description", "Bag", "Seq", "Alt", "li", "value")
}
ATTRIBUTES: Mapping[Name, str] = {(RDF, name): f"rdf:{name}" for name in ("about", "parseType", "resource")} | {
    (XML, "lang"): "xml:lang"
}
"""Names that structure values, as they are written."""
STRUCTURE = frozenset({"", "rdf:Description", "rdf:Bag", "rdf:Seq", "rdf:Alt"})
"""Elements without text of their own."""
EMPTY_ATTRIBUTES = frozenset({"rdf:about", "rdf:parseType", "xml:lang"})
"""Attributes that mean nothing on an element without content."""


TIFF = "http://ns.adobe.com/tiff/1.0/"
TURNED = {(TIFF, "XResolution"): (TIFF, "YResolution"), (TIFF, "YResolution"): (TIFF, "XResolution")}
"""Names that are exchanged where a picture is turned by 90 degrees."""


def kept_xmp(
    packet: bytes, parts: Iterable[bytes] = (), *, location: bool = False, turned: bool = False
) -> bytes | None:
    """Write a new packet with the properties that may be kept; None if there are none, or the packet is malformed.

    Args:
        packet: in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        parts: the parts of extended packets, as they are in a JPEG.
        location: keep the location, too.
        turned: the picture was turned by 90 degrees.
    """
    names = [KEPT, LOCATION] if location else [KEPT]
    writer, text = _Writer(names, turned=turned), _text(packet)
    if not text or not writer.take(text):
        return None
    extension = _text(_joined(parts, text))
    if extension:
        more = _Writer(names, turned=turned)
        if more.take(extension):
            writer.add(more)
    return writer.packet()


def _text(packet: bytes) -> str | None:
    """Decode a packet; None if it is too small or too large."""
    if not 4 <= len(packet) <= MAX_BYTES:
        return None
    mark = next((name for mark, name in BYTE_ORDER_MARKS if packet.startswith(mark)), None)
    zeros = "".join("0" if byte == 0 else "x" for byte in packet[:4])
    found = mark or ENCODINGS_BY_ZEROS.get(zeros, "utf-8-sig")
    try:
        text = packet.decode(found)
    except UnicodeDecodeError:
        text = packet.decode("latin-1")  # not allowed in a packet, but some have it
    return text.strip("\0 \t\r\n")


def _joined(parts: Iterable[bytes], packet: str) -> bytes:
    """Return the extended packet whose ID a packet names; empty if it is incomplete."""
    named = EXTENSION_ID.search(packet)
    if not named:
        return b""
    start, found = len(EXTENSION_NAME) + len(named[1]) + 8, dict[int, bytes]()
    size = 0
    for part in parts:
        if len(part) >= start and part[len(EXTENSION_NAME) : start - 8].lower() == named[1].encode().lower():
            size, offset = struct.unpack_from(">II", part, start - 8)
            found.setdefault(offset, part[start:])
    joined = b"".join(content for _, content in sorted(found.items()))
    offsets = accumulate((len(found[offset]) for offset in sorted(found)), initial=0)
    return joined if [*sorted(found), size] == [*offsets] else b""


class _Refused(Exception):
    """A packet that no well-behaved program writes."""


@dataclass(frozen=True)
class _Element:
    """An open element."""

    tag: str
    """Its name as it was written; empty for the RDF itself and elements around it."""
    start: int
    """Index of its start tag in the body."""
    prefixes: Sequence[str]
    """Prefixes that it declares."""


class _Writer:
    """Receives a parser's events and writes what may be kept, in one pass."""

    def __init__(self, names: Iterable[Names], *, turned: bool) -> None:
        self._names = list(names)
        self._new_names = TURNED if turned else {}
        self._uris: dict[str, list[str]] = {"xml": [XML], "xmlns": [XMLNS]}
        """URIs of the prefixes, those of inner elements last."""
        self._body: list[str] = []
        self._spaces = {RDF: "rdf"}
        self._in_rdf = False
        self._last_content = -1
        """Index of the last part of the body that is more than structure and white space."""
        self._open: list[_Element] = []
        self._dropped = 0
        """Number of open elements from the dropped one inwards."""

    def take(self, text: str) -> bool:
        """Parse a packet; returns False if it is malformed.

        The parser does not resolve prefixes: it would make a copy of the URI for each name, however long that is.
        """
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(text, True)
        except (expat.ExpatError, _Refused, UnicodeEncodeError):
            return False
        return True

    def add(self, other: "_Writer") -> None:
        """Append what another writer has written."""
        self._body += other._body
        self._spaces |= other._spaces

    def packet(self) -> bytes | None:
        """Return the packet; None if it is empty."""
        if not self._body:
            return None
        spaces = "".join(f' xmlns:{prefix}="{uri}"' for uri, prefix in sorted(self._spaces.items()))
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF{spaces}>{"".join(self._body)}</rdf:RDF></x:xmpmeta>'
            '<?xpacket end="w"?>'
        ).encode()

    def _refuse(self, *_: object) -> None:
        raise _Refused("a document type: entities that it defines can expand")

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._dropped or len(self._open) >= MAX_DEPTH:
            self._dropped += 1
            return
        prefixes = self._declare(attributes)
        name = self._resolved(tag, of_element=True)
        if not self._in_rdf:
            self._in_rdf = name == RDF_ROOT
            self._open.append(_Element("", len(self._body), prefixes))
        elif (written := self._written(name, ELEMENTS)) is None:
            self._forget(prefixes)
            self._dropped = 1
        else:
            named = ((self._written(self._resolved(key), ATTRIBUTES), value) for key, value in attributes.items())
            said = {key: "" if key == "rdf:about" else value for key, value in named if key}
            self._open.append(_Element(written, len(self._body), prefixes))
            if not said.keys() <= EMPTY_ATTRIBUTES:
                self._last_content = len(self._body)
            self._body.append(f"<{written}{''.join(f' {key}={quoteattr(value)}' for key, value in said.items())}>")

    def _end(self, tag: str) -> None:
        if self._dropped:
            self._dropped -= 1
            return
        element = self._open.pop()
        if not element.tag:
            self._in_rdf = self._in_rdf and self._resolved(tag, of_element=True) != RDF_ROOT
        elif self._last_content >= element.start:
            self._body.append(f"</{element.tag}>")
        else:
            del self._body[element.start :]
        self._forget(element.prefixes)

    def _declare(self, attributes: Mapping[str, str]) -> Sequence[str]:
        """Take the namespaces of an element; returns their prefixes, empty for that of names without one."""
        spaces = {key[6:]: uri for key, uri in attributes.items() if key == "xmlns" or key.startswith("xmlns:")}
        for prefix, uri in spaces.items():
            self._uris.setdefault(prefix, []).append(uri)
        return list(spaces)

    def _forget(self, prefixes: Sequence[str]) -> None:
        for prefix in prefixes:
            self._uris[prefix].pop()

    def _resolved(self, name: str, *, of_element: bool = False) -> Name:
        prefix, _, local = name.rpartition(":")
        if not prefix and not of_element:
            return "", local
        if uris := self._uris.get(prefix):
            return uris[-1], local
        if prefix:
            raise _Refused("a prefix without a namespace")
        return "", local

    def _characters(self, text: str) -> None:
        if not self._dropped and self._open and self._open[-1].tag not in STRUCTURE:
            if not text.isspace():
                self._last_content = len(self._body)
            self._body.append(escape(text, {"\r": "&#13;"}))

    def _written(self, name: Name, structure: Mapping[Name, str]) -> str | None:
        """Return the name with its usual prefix; None for one that is dropped."""
        if name in structure:
            return structure[name]
        uri, local = self._new_names.get(name, name)
        for names in self._names:
            prefix, kept = names.get(uri, ("", frozenset()))
            if local in kept:
                self._spaces[uri] = prefix
                return f"{prefix}:{local}"
        return None
