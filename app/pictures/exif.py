"""Reads and writes EXIF, a TIFF structure. An answer repeats only what is still true of it.

Values are copied as bytes in their original byte order, so text in any encoding is preserved; offsets are computed for
the new structure. A tag that is on no list below is dropped: sizes and offsets of the old file, thumbnails, maker
notes, the location.

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
"""Tags of the first IFD that are kept."""

CAMERA_TAGS: frozenset[int] = frozenset(
    # versions and dates
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
    # comments and the identity of the camera
    | {Base.UserComment, Base.ImageNumber, Base.ImageHistory, Base.SecurityClassification, Base.ImageUniqueID}
    | {Base.CameraOwnerName, Base.BodySerialNumber}
    | {Base.LensSpecification, Base.LensMake, Base.LensModel, Base.LensSerialNumber}
    | set(range(0xA436, 0xA43D))  # EXIF 3.0: title, photographer, editor, firmware, software
)
"""Tags of the Exif IFD that are kept."""

LOCATION_TAGS: frozenset[int] = frozenset(range(32))
INTEROP_TAGS: frozenset[int] = frozenset({1, 2})
"""The index, which names the colour space, and the version."""

COLOUR_TAGS: frozenset[int] = frozenset({Base.ColorSpace, Base.Gamma, Base.WhitePoint, Base.PrimaryChromaticities})
"""Tags that describe the encoding of colours; invalid after the colours were converted."""

ADOBE_RGB, UNCALIBRATED = 2, 65535
"""Values of ColorSpace."""

SHORT, RATIONAL = 3, 5
"""Field types: whole numbers of 16 bits, and fractions."""

RESOLUTION: Mapping[int, int] = {
    Base.XResolution: RATIONAL,
    Base.YResolution: RATIONAL,
    Base.ResolutionUnit: SHORT,
}
"""Tags that readers compute with when they open a file, and the field type of their single value."""

INCH = 2
PER_INCH = {INCH: 1.0, 3: 2.54}
"""Units per inch by ResolutionUnit; without one, the unit is the inch."""

VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Bytes of a value by field type. The 8-byte types that BigTIFF adds are not valid in EXIF."""
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

MAX_BYTES = 4 * 2**20
"""Maximum total bytes of copied values: values may overlap, so a small file could claim an endless number."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A value of a tag, as bytes."""

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
    """Byte order of all values, in the notation of `struct`."""
    image: Fields = field(default_factory=dict)
    camera: Fields = field(default_factory=dict)
    interop: Fields = field(default_factory=dict)
    location: Fields = field(default_factory=dict)

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch, horizontally and vertically; None if it says no resolution, or only an aspect ratio."""
        unit = self.image.get(Base.ResolutionUnit)
        in_inch = PER_INCH.get((_integer(unit.kind, unit.value, self.order) or 0) if unit else INCH)
        across, down = (self._fraction(tag) for tag in (Base.XResolution, Base.YResolution))
        return (across * in_inch, down * in_inch) if across and down and in_inch else None

    @property
    def is_adobe_rgb(self) -> bool:
        """True for Adobe RGB, by DCF's rule or by the value 2 that some cameras write."""
        space = self.camera.get(Base.ColorSpace)
        value = _integer(space.kind, space.value, self.order) if space else None
        index = self.interop.get(1)
        return value == ADOBE_RGB or (value == UNCALIBRATED and index is not None and index.value.startswith(b"R03"))

    def _fraction(self, tag: int) -> float | None:
        found = self.image.get(tag)
        if found is None or (found.kind, found.count) != (RATIONAL, 1):
            return None
        over, under = struct.unpack(self.order + "II", found.value)
        return over / under if under else None

    def without_location(self) -> "Exif":
        """Return a copy without the location."""
        return replace(self, location={})

    def turned(self) -> "Exif":
        """Return a copy for pixels that were turned by 90 degrees."""
        names: dict[int, int] = {Base.XResolution: Base.YResolution, Base.YResolution: Base.XResolution}
        return replace(self, image={names.get(tag, tag): found for tag, found in self.image.items()})

    def without_colour(self) -> "Exif":
        """Return a copy for pixels whose colours were converted."""
        image, camera = (
            {tag: found for tag, found in fields.items() if tag not in COLOUR_TAGS}
            for fields in (self.image, self.camera)
        )
        return replace(self, image=image, camera=camera, interop={})

    def to_bytes(self) -> bytes | None:
        """Return the TIFF structure, without the name that precedes it in a JPEG; None if it is empty."""
        camera: _Tree = dict(self.camera)
        if self.interop:
            camera[IFD.Interop] = dict(self.interop)
        image: _Tree = dict(self.image)
        if camera:
            image[IFD.Exif] = camera
        if self.location:
            image[IFD.GPSInfo] = dict(self.location)
        if not image:
            return None
        mark = b"II" if self.order == "<" else b"MM"
        return mark + struct.pack(self.order + "HI", 42, 8) + _written(image, 8, self.order)


_Tree = dict[int, "Field | _Tree"]


def read_exif(data: bytes, first: int | None = None) -> Exif | None:
    """Read the tags that may be kept. Corrupt ones are skipped; returns None if nothing can be read.

    Args:
        data: a TIFF structure or a whole TIFF, with or without the name that precedes it in a JPEG.
        first: offset of the picture's IFD; by default the first IFD.
    """
    tiff = _Tiff.of(data.removeprefix(EXIF_NAME))
    if tiff is None:
        return None
    first = tiff.first if first is None else first
    image = _with_sound_resolution(tiff.fields(first, IMAGE_TAGS))
    camera_at, location_at = (tiff.pointer(first, tag) for tag in (IFD.Exif, IFD.GPSInfo))
    return Exif(
        order=tiff.order,
        image=image,
        camera=tiff.fields(camera_at, CAMERA_TAGS),
        interop=tiff.fields(tiff.pointer(camera_at, IFD.Interop), INTEROP_TAGS),
        location=tiff.fields(location_at, LOCATION_TAGS),
    )


def _with_sound_resolution(image: Fields) -> Fields:
    """Return the fields, without a resolution if one of its tags has another type: Pillow opens no such JPEG."""
    if all((image[tag].kind, image[tag].count) == (kind, 1) for tag, kind in RESOLUTION.items() if tag in image):
        return image
    return {tag: found for tag, found in image.items() if tag not in RESOLUTION}


def tiff_value(data: bytes, tag: int, at: int) -> bytes | None:
    """Return the bytes of a tag in the IFD at an offset of a TIFF."""
    tiff = _Tiff.of(data)
    found = tiff.fields(at, frozenset({tag})).get(tag) if tiff else None
    return found.value if found else None


def _integer(kind: int, value: bytes, order: str) -> int | None:
    """Return the first of a field's values."""
    form = struct.Struct(order + INTEGERS[kind]) if kind in INTEGERS else None
    return int(form.unpack_from(value)[0]) if form and len(value) >= form.size else None


class _Tiff:
    """Reads IFDs; anything outside of the data counts as absent."""

    def __init__(self, data: bytes, order: Literal["<", ">"], first: int, *, big: bool) -> None:
        self.order: Literal["<", ">"] = order
        self.first = first
        self._data = memoryview(data)
        self._count = struct.Struct(order + ("Q" if big else "H"))
        self._entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        self._offset = struct.Struct(order + ("Q" if big else "I"))
        self._left_bytes = min(MAX_BYTES, len(data))

    @classmethod
    def of(cls, data: bytes) -> "_Tiff | None":
        """Make a reader if the data begin like a TIFF, classic or BigTIFF."""
        order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
        if data[:2] not in (b"II", b"MM") or len(data) < 16:
            return None
        (version,) = struct.unpack_from(order + "H", data, 2)
        if version not in (42, 43):
            return None
        (first,) = struct.unpack_from(order + ("Q" if version == 43 else "I"), data, 8 if version == 43 else 4)
        return cls(data, order, first, big=version == 43)

    def fields(self, at: int | None, tags: Set[int]) -> dict[int, Field]:
        """Return the valid fields of an IFD among some tags; the first one where a tag is repeated."""
        found: dict[int, Field] = {}
        for tag, kind, count, inline in self._entries(at):
            size = count * VALUE_BYTES.get(kind, 0)
            if tag not in tags or tag in found or not 0 < size <= self._left_bytes:
                continue
            (offset,) = self._offset.unpack(inline)
            value = inline[:size] if size <= len(inline) else bytes(self._data[offset : offset + size])
            if len(value) == size:
                found[tag] = Field(kind=kind, count=count, value=value)
                self._left_bytes -= size
        return found

    def pointer(self, at: int | None, tag: int) -> int | None:
        """Return the offset of an IFD that is stored in a field of another one."""
        for found, kind, count, inline in self._entries(at):
            if found == tag and count == 1:
                return _integer(kind, inline, self.order)
        return None

    def _entries(self, at: int | None) -> list[tuple[int, int, int, bytes]]:
        """Return the tag, type, count, and the bytes that hold the value or its offset, of each entry."""
        if not at or at + self._count.size > len(self._data):
            return []
        (count,) = self._count.unpack_from(self._data, at)
        start = at + self._count.size
        whole = min(count, 65_535, (len(self._data) - start) // self._entry.size)
        return list(self._entry.iter_unpack(self._data[start : start + whole * self._entry.size]))


def _written(tree: _Tree, at: int, order: str) -> bytes:
    """Write an IFD at an offset, followed by everything that it points to."""
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
