"""EXIF: a TIFF structure. An answer repeats only what is still true of it.

Values are copied as bytes, in the byte order that they have, so text in any encoding stays as it is. The offsets are
new. A tag that is on no list below is dropped: sizes and offsets of the old file, thumbnails, maker notes, the place.

TIFF 6.0, BigTIFF, and EXIF 3.0 (CIPA DC-008-2023).
"""

import struct
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL.ExifTags import IFD, Base

EXIF_NAME = b"Exif\0\0"
"""Precedes the TIFF structure in a JPEG."""

IMAGE_TAGS: frozenset[int] = frozenset(
    {Base.DocumentName, Base.ImageDescription, Base.Make, Base.Model, Base.PageName, Base.Software, Base.DateTime}
    | {Base.XResolution, Base.YResolution, Base.ResolutionUnit, Base.Artist, Base.HostComputer, Base.Copyright}
    | {Base.WhitePoint, Base.PrimaryChromaticities, Base.Rating, Base.RatingPercent}
    | {Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject}
)
"""Tags of the first IFD that stay."""

CAMERA_TAGS: frozenset[int] = frozenset(
    # versions, dates
    {Base.ExifVersion, Base.FlashPixVersion, Base.DateTimeOriginal, Base.DateTimeDigitized, Base.TimeZoneOffset}
    | {Base.OffsetTime, Base.OffsetTimeOriginal, Base.OffsetTimeDigitized}
    | {Base.SubsecTime, Base.SubsecTimeOriginal, Base.SubsecTimeDigitized}
    # exposure
    | {Base.ExposureTime, Base.FNumber, Base.ExposureProgram, Base.SpectralSensitivity, Base.OECF, Base.SelfTimerMode}
    | {Base.ISOSpeedRatings, Base.SensitivityType, Base.StandardOutputSensitivity, Base.RecommendedExposureIndex}
    | {Base.ISOSpeed, Base.ISOSpeedLatitudeyyy, Base.ISOSpeedLatitudezzz, Base.ShutterSpeedValue, Base.ApertureValue}
    | {Base.BrightnessValue, Base.ExposureBiasValue, Base.MaxApertureValue, Base.SubjectDistance, Base.MeteringMode}
    | {Base.LightSource, Base.Flash, Base.FocalLength, Base.FlashEnergy, Base.ExposureIndex, Base.SensingMethod}
    | {Base.FileSource, Base.SceneType, Base.CFAPattern, Base.CustomRendered, Base.ExposureMode, Base.WhiteBalance}
    | {Base.DigitalZoomRatio, Base.FocalLengthIn35mmFilm, Base.SceneCaptureType, Base.GainControl, Base.Contrast}
    | {Base.Saturation, Base.Sharpness, Base.SubjectDistanceRange, Base.SpatialFrequencyResponse}
    | {Base.CompositeImage, Base.CompositeImageCount, Base.CompositeImageExposureTimes}
    | {Base.AmbientTemperature, Base.Humidity, Base.Acceleration, Base.CameraElevationAngle}
    # colour
    | {Base.ColorSpace, Base.Gamma}
    # words, and which camera it was
    | {Base.UserComment, Base.ImageNumber, Base.ImageHistory, Base.SecurityClassification, Base.ImageUniqueID}
    | {Base.CameraOwnerName, Base.BodySerialNumber}
    | {Base.LensSpecification, Base.LensMake, Base.LensModel, Base.LensSerialNumber}
    | set(range(0xA436, 0xA43D))  # EXIF 3.0: title, photographer, editor, firmware, software
)
"""Tags of the Exif IFD that stay."""

PLACE_TAGS: frozenset[int] = frozenset(range(32))
INTEROP_TAGS: frozenset[int] = frozenset({1, 2})
"""The index, which names the colour space, and the version."""

COLOUR_TAGS: frozenset[int] = frozenset({Base.ColorSpace, Base.Gamma, Base.WhitePoint, Base.PrimaryChromaticities})
"""Tags that say how colours are written, which no longer holds where they were converted."""

ADOBE_RGB, UNCALIBRATED = 2, 65535
"""Values of ColorSpace."""

VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Bytes of a value by field type. The types of 8 bytes that BigTIFF adds are not for EXIF."""
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

MOST_BYTES = 4 * 2**20
"""Most bytes of all values that are copied: values may overlap, and a small file could claim endless ones."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A value of a tag, as its bytes."""

    kind: int
    """Field type of TIFF."""
    count: int
    value: bytes


Fields = Mapping[int, Field]
"""Fields of an IFD by tag."""


@dataclass(frozen=True, kw_only=True)
class Exif:
    """The tags of a file that an answer may repeat."""

    order: Literal["<", ">"]
    """Byte order of all values, as `struct` writes it."""
    image: Fields = field(default_factory=dict)
    camera: Fields = field(default_factory=dict)
    interop: Fields = field(default_factory=dict)
    place: Fields = field(default_factory=dict)

    @property
    def says_adobe_rgb(self) -> bool:
        """The pixels are Adobe RGB by DCF's rule, or by the value 2 that some cameras write."""
        space = self.camera.get(Base.ColorSpace)
        value = _integer(space.kind, space.value, self.order) if space else None
        index = self.interop.get(1)
        return value == ADOBE_RGB or (value == UNCALIBRATED and index is not None and index.value.startswith(b"R03"))

    def without_place(self) -> "Exif":
        """The same without the place."""
        return replace(self, place={})

    def without_colour(self) -> "Exif":
        """The same for pixels whose colours were converted."""
        image, camera = (
            {tag: found for tag, found in fields.items() if tag not in COLOUR_TAGS}
            for fields in (self.image, self.camera)
        )
        return replace(self, image=image, camera=camera, interop={})

    def to_bytes(self) -> bytes | None:
        """The TIFF structure, without the name that JPEG puts before it; None where nothing is left."""
        camera: _Tree = dict(self.camera)
        if self.interop:
            camera[IFD.Interop] = dict(self.interop)
        image: _Tree = dict(self.image)
        if camera:
            image[IFD.Exif] = camera
        if self.place:
            image[IFD.GPSInfo] = dict(self.place)
        if not image:
            return None
        mark = b"II" if self.order == "<" else b"MM"
        return mark + struct.pack(self.order + "HI", 42, 8) + _written(image, 8, self.order)


_Tree = dict[int, "Field | _Tree"]


def read_exif(data: bytes, first: int | None = None) -> Exif | None:
    """Read the tags that may stay. Broken ones are left out, and None is returned where nothing can be read.

    Args:
        data: a TIFF structure or a whole TIFF, with or without the name that JPEG puts before it.
        first: where the IFD of the picture begins; the first one if None.
    """
    tiff = _Tiff.of(data.removeprefix(EXIF_NAME))
    if tiff is None:
        return None
    first = tiff.first if first is None else first
    image = tiff.fields(first, IMAGE_TAGS)
    camera_at, place_at = (tiff.pointer(first, tag) for tag in (IFD.Exif, IFD.GPSInfo))
    return Exif(
        order=tiff.order,
        image=image,
        camera=tiff.fields(camera_at, CAMERA_TAGS),
        interop=tiff.fields(tiff.pointer(camera_at, IFD.Interop), INTEROP_TAGS),
        place=tiff.fields(place_at, PLACE_TAGS),
    )


def tiff_value(data: bytes, tag: int, at: int) -> bytes | None:
    """The bytes of a tag of the IFD that begins at a place of a TIFF."""
    tiff = _Tiff.of(data)
    found = tiff.fields(at, frozenset({tag})).get(tag) if tiff else None
    return found.value if found else None


def _integer(kind: int, value: bytes, order: str) -> int | None:
    """The first of a field's values."""
    form = struct.Struct(order + INTEGERS[kind]) if kind in INTEGERS else None
    return int(form.unpack_from(value)[0]) if form and len(value) >= form.size else None


class _Tiff:
    """Reads IFDs; whatever lies outside of the data is not there."""

    def __init__(self, data: bytes, order: Literal["<", ">"], first: int, *, big: bool) -> None:
        self.order: Literal["<", ">"] = order
        self.first = first
        self._data = memoryview(data)
        self._count = struct.Struct(order + ("Q" if big else "H"))
        self._entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        self._offset = struct.Struct(order + ("Q" if big else "I"))
        self._left_bytes = min(MOST_BYTES, len(data))

    @classmethod
    def of(cls, data: bytes) -> "_Tiff | None":
        """A reader of what begins as a TIFF, classic or BigTIFF, does."""
        order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
        if data[:2] not in (b"II", b"MM") or len(data) < 16:
            return None
        (version,) = struct.unpack_from(order + "H", data, 2)
        if version not in (42, 43):
            return None
        (first,) = struct.unpack_from(order + ("Q" if version == 43 else "I"), data, 8 if version == 43 else 4)
        return cls(data, order, first, big=version == 43)

    def fields(self, at: int | None, wanted: Set[int]) -> dict[int, Field]:
        """The sound fields of an IFD that are wanted; the first one where a tag is repeated."""
        found: dict[int, Field] = {}
        for tag, kind, count, inline in self._entries(at):
            size = count * VALUE_BYTES.get(kind, 0)
            if tag not in wanted or tag in found or not 0 < size <= self._left_bytes:
                continue
            (place,) = self._offset.unpack(inline)
            value = inline[:size] if size <= len(inline) else bytes(self._data[place : place + size])
            if len(value) == size:
                found[tag] = Field(kind=kind, count=count, value=value)
                self._left_bytes -= size
        return found

    def pointer(self, at: int | None, tag: int) -> int | None:
        """The offset of an IFD that a field of another one holds."""
        for found, kind, count, inline in self._entries(at):
            if found == tag and count == 1:
                return _integer(kind, inline, self.order)
        return None

    def _entries(self, at: int | None) -> list[tuple[int, int, int, bytes]]:
        """Tag, type, count, and the bytes that hold the value or its offset."""
        if not at or at + self._count.size > len(self._data):
            return []
        (count,) = self._count.unpack_from(self._data, at)
        start = at + self._count.size
        whole = min(count, 65_535, (len(self._data) - start) // self._entry.size)
        return list(self._entry.iter_unpack(self._data[start : start + whole * self._entry.size]))


def _written(tree: _Tree, at: int, order: str) -> bytes:
    """An IFD at an offset, followed by all that it points to."""
    entries, behind = [], bytearray()
    start = at + 2 + 12 * len(tree) + 4
    for tag, entry in sorted(tree.items()):
        offset = struct.pack(order + "I", start + len(behind))
        if isinstance(entry, dict):
            kind, count, value = 4, 1, offset
            behind += _written(entry, start + len(behind), order)
        else:
            kind, count, value = entry.kind, entry.count, entry.value
            if len(value) > 4:
                value, content = offset, value
                behind += content + b"\0" * (len(content) % 2)
        entries.append(struct.pack(order + "HHI4s", tag, kind, count, value.ljust(4, b"\0")))
    return struct.pack(order + "H", len(tree)) + b"".join(entries) + bytes(4) + behind
