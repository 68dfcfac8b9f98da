"""The directories of a TIFF: their fields, read without a decoder, and the file with a directory of our own."""

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap

import numpy

from model.pictures.errors import Damaged, OverLimit

VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, by field type."""

INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Codes of the field types that are whole numbers without a sign."""

SIGNED = frozenset({6, 8, 9, 17})
"""Field types of whole numbers with a sign, which decoders read, and nothing here."""

LONG, RATIONAL, LONG8 = 4, 5, 16
SUB_DIRECTORIES = 330

MAX_DIRECTORIES = 10_000
"""Maximum directories of a file that are read."""

MAX_SUB_DIRECTORIES = 100
"""Maximum directories below another one that are read: real ones have up to ten, of smaller copies."""

MAX_FIELDS = 200_000
"""Maximum fields in all directories of a file: real directories have up to a hundred each."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """An entry of a directory."""

    kind: int
    count: int
    entry: bytes
    """The bytes of the entry."""

    @property
    def size_bytes(self) -> int:
        """Size of the values."""
        return self.count * VALUE_BYTES.get(self.kind, 1)


@dataclass(frozen=True, kw_only=True)
class Directory:
    """The fields of one picture in a TIFF."""

    file: "TiffFile"
    place: int
    fields: Mapping[int, Field]
    next: int
    """Offset of the next directory; 0 for the last one."""

    def raw(self, tag: int, most: int | None = None) -> bytes:
        """Return the bytes of a field's values; empty without the field.

        Args:
            most: values that are wanted; all of them if None.

        Raises:
            Damaged: they end outside of the file.
        """
        field = self.fields.get(tag)
        if field is None:
            return b""
        wanted_bytes = min(field.count, field.count if most is None else most) * VALUE_BYTES.get(field.kind, 1)
        inline = field.entry[-self.file.word_bytes :]
        if field.size_bytes <= self.file.word_bytes:
            return inline[:wanted_bytes]
        (place,) = struct.unpack(self.file.order + self.file.word, inline)
        if place + wanted_bytes > len(self.file.content):
            raise Damaged(f"the TIFF file is truncated or corrupt: its field {tag} ends outside of the file")
        return bytes(self.file.content[place : place + wanted_bytes])

    def numbers(self, tag: int, most: int | None = None) -> tuple[int, ...]:
        """Return the integers of a field; none without the field, or if it holds something else.

        Raises:
            Damaged: they end outside of the file.
        """
        field = self.fields.get(tag)
        if field is None or field.kind not in INTEGERS:
            return ()
        packed = self.raw(tag, most)
        return struct.unpack(f"{self.file.order}{len(packed) // VALUE_BYTES[field.kind]}{INTEGERS[field.kind]}", packed)

    def total(self, tag: int, *, most_each: int) -> int:
        """Return the sum of a field's integers, each counted up to a limit; 0 without the field.

        Raises:
            Damaged: they end outside of the file.
        """
        field = self.fields.get(tag)
        if field is None or field.kind not in INTEGERS:
            return 0
        packed, size = self.raw(tag), VALUE_BYTES[field.kind]
        numbers = numpy.frombuffer(packed, self.file.order + INTEGERS[field.kind], len(packed) // size)
        return int(numpy.minimum(numbers.astype(numpy.uint64), most_each).sum())

    def fractions(self, tag: int) -> tuple[float, ...]:
        """Return the fractions or integers of a field, infinite ones for division by 0; none without the field.

        Raises:
            Damaged: they end outside of the file.
        """
        field = self.fields.get(tag)
        if field is None or field.kind != RATIONAL:
            return self.numbers(tag)
        pairs = struct.iter_unpack(self.file.order + "II", self.raw(tag))
        return tuple(over / under if under else math.inf for over, under in pairs)

    def number(self, tag: int, default: int) -> int:
        """Return the first number of a field."""
        return next(iter(self.numbers(tag, 1)), default)


class TiffFile:
    """A TIFF or BigTIFF of either byte order.

    Args:
        content: the file, which begins with the signature of one.
    """

    def __init__(self, content: bytes | mmap) -> None:
        self.content = content
        self.order = "<" if content[:2] == b"II" else ">"
        self.big = content[2:4] in (b"+\0", b"\0+")
        self.word, self.word_bytes = ("Q", 8) if self.big else ("I", 4)
        self._count, self._count_bytes = ("Q", 8) if self.big else ("H", 2)
        self._entry_bytes = 20 if self.big else 12
        self._fields_seen = 0

    @cached_property
    def directories(self) -> tuple[Directory, ...]:
        """Return the chain of pictures, as far as it is sound.

        Raises:
            Damaged: the first one is not.
        """
        place = self._number(self.word, 8 if self.big else 4)
        found: dict[int, Directory] = {}
        while place and place not in found and len(found) < MAX_DIRECTORIES:
            try:
                found[place] = self.directory_at(place)
            except Damaged:
                break
            place = found[place].next
        if not found:
            raise Damaged(f"the TIFF file is truncated or corrupt: it has no directory at byte {place}")
        return tuple(found.values())

    def inside(self, directory: Directory) -> Iterator[Directory]:
        """Return the first directories below one, as far as they are sound."""
        for place in dict.fromkeys(directory.numbers(SUB_DIRECTORIES, MAX_SUB_DIRECTORIES)):
            try:
                yield self.directory_at(place)
            except Damaged:
                continue

    def directory_at(self, place: int) -> Directory:
        """Return the directory at an offset.

        Raises:
            Damaged: it ends outside of the file.
            OverLimit: the directories have too many fields.
        """
        entries = self._number(self._count, place)
        first = place + self._count_bytes
        end = first + entries * self._entry_bytes
        if end > len(self.content):
            raise Damaged(f"the TIFF file is truncated or corrupt: its directory at byte {place} ends outside of it")
        self._fields_seen += entries
        if self._fields_seen > MAX_FIELDS:
            raise OverLimit(
                f"the TIFF has more than {MAX_FIELDS} fields, which is the limit; send its first page alone"
            )
        fields: dict[int, Field] = {}
        for at in range(first, end, self._entry_bytes):
            entry = bytes(self.content[at : at + self._entry_bytes])
            tag, kind, count = struct.unpack_from(self.order + "HH" + self.word, entry)
            fields.setdefault(tag, Field(kind=kind, count=count, entry=entry))
        after = self._number(self.word, end) if end + self.word_bytes <= len(self.content) else 0
        return Directory(file=self, place=place, fields=fields, next=after)

    def with_directory(self, directory: Directory, kept: Collection[int], made: Mapping[int, Sequence[int]]) -> bytes:
        """Return the file with one directory only, at its end.

        Args:
            directory: where fields are taken from.
            kept: tags of the fields that stay as they are.
            made: other fields, of these numbers.
        """
        padding = bytes(-len(self.content) % 8)
        place = len(self.content) + len(padding)
        taken = {tag: field for tag, field in directory.fields.items() if tag in kept and tag not in made}
        big = self.big and self.order == "<"  # Pillow reads no BigTIFF of the other byte order
        writer = _Writer(order=self.order, big=big, place=place, entries=len(taken) + len(made))
        for tag in sorted({*taken, *made}):
            if tag in made:
                writer.add_numbers(tag, made[tag])
            elif big == self.big:
                writer.add(taken[tag].entry)
            elif taken[tag].kind in INTEGERS:
                writer.add_numbers(tag, directory.numbers(tag))
            else:
                writer.add_values(tag, taken[tag].kind, taken[tag].count, directory.raw(tag))
        signature = b"MM\0*" if self.big and not big else self.content[: 8 if big else 4]
        pointer = struct.pack(self.order + writer.word, place)
        with memoryview(self.content) as content, content[16 if big else 8 :] as rest:
            return b"".join((signature, pointer, rest, padding, writer.directory()))

    def _number(self, code: str, place: int) -> int:
        if place + struct.calcsize("=" + code) > len(self.content):
            raise Damaged(f"the TIFF file is truncated or corrupt: it ends before byte {place}")
        (number,) = struct.unpack_from(self.order + code, self.content, place)
        return int(number)


class _Writer:
    """A directory that is being written.

    Args:
        place: where it begins in its file.
        entries: number of its fields.
    """

    def __init__(self, *, order: str, big: bool, place: int, entries: int) -> None:
        self.word, self._word_bytes = ("Q", 8) if big else ("I", 4)
        self._order, self._kind = order, LONG8 if big else LONG
        self._directory = struct.pack(order + ("Q" if big else "H"), entries)
        self._values = b""
        self._values_place = place + len(self._directory) + entries * (20 if big else 12) + self._word_bytes

    def add(self, entry: bytes) -> None:
        """Add a field with its entry as stored in the file."""
        self._directory += entry

    def add_numbers(self, tag: int, numbers: Sequence[int]) -> None:
        """Add a field of whole numbers."""
        values = struct.pack(f"{self._order}{len(numbers)}{self.word}", *numbers)
        self.add_values(tag, self._kind, len(numbers), values)

    def add_values(self, tag: int, kind: int, count: int, values: bytes) -> None:
        """Add a field with values in the byte order of the file."""
        inline = values.ljust(self._word_bytes, b"\0")
        if len(values) > self._word_bytes:
            inline = struct.pack(self._order + self.word, self._values_place + len(self._values))
            self._values += values
        self._directory += struct.pack(self._order + "HH" + self.word, tag, kind, count) + inline

    def directory(self) -> bytes:
        """Return the whole directory, the last one of its file."""
        return self._directory + bytes(self._word_bytes) + self._values
