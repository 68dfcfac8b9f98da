"""The orientation in XMP, in all notations of XML."""

import io
import struct
from collections.abc import Callable
from typing import NoReturn

import numpy
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from model.pictures.orientation import in_xmp, size_in_header
from model.pictures.reading import read
from tests.model.pictures.files import LIMITS
from tests.tiff_file import Tiff

WAYS = [
    ("tiff", ' tiff:Orientation="6"/>'),
    ("tiff", " tiff:Orientation = '6'/>"),
    ("tiff", "><tiff:Orientation> 6 </tiff:Orientation></rdf:Description>"),
    ("t", ' t:Orientation="6"/>'),
    ("ns0", "><ns0:Orientation>6</ns0:Orientation></rdf:Description>"),
]
ENCODINGS = ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def packet(prefix: str, said: str, space: str = "http://ns.adobe.com/tiff/1.0/") -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:{prefix}="{space}"{said}</rdf:RDF></x:xmpmeta>'
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("prefix", "said"), WAYS)
def test_every_way_to_say_it_counts(prefix: str, said: str, encoding: str) -> None:
    assert in_xmp(packet(prefix, said).encode(encoding)) == 6


@pytest.mark.parametrize("said", [' t:Orientation="9"/>', ' t:Orientation="60"/>', ' u:Orientation="6"/>', "/>"])
def test_anything_else_is_upright(said: str) -> None:
    assert in_xmp(packet("t", said).encode()) == 1


def test_an_orientation_of_something_else_does_not_count() -> None:
    assert in_xmp(packet("crs", ' crs:Orientation="6"/>', "http://ns.adobe.com/camera-raw-settings/1.0/").encode()) == 1


def jpeg(image: Image.Image, xmp: bytes) -> bytes:
    made = io.BytesIO()
    image.save(made, "JPEG")
    content = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(content)) + content + made.getvalue()[2:]


def png(image: Image.Image, xmp: bytes) -> bytes:
    made, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    image.save(made, "PNG", pnginfo=info)
    return made.getvalue()


def webp(image: Image.Image, xmp: bytes) -> bytes:
    made = io.BytesIO()
    image.save(made, "WEBP", xmp=xmp)
    return made.getvalue()


def tiff(image: Image.Image, xmp: bytes) -> bytes:
    return Tiff(fields={700: (7, xmp)}).file(numpy.asarray(image).astype(numpy.uint16))


@pytest.mark.parametrize("kind", [jpeg, png, webp, tiff])
def test_a_picture_is_turned_whatever_the_prefix_is(kind: Callable[[Image.Image, bytes], bytes]) -> None:
    file = kind(Image.new("RGB", (12, 8)), packet("t", ' t:Orientation="6"/>').encode())
    assert read(file, LIMITS).orientation == 6


@pytest.mark.parametrize(("said", "counts"), [(0, 1), (1, 1), (5, 5), (8, 8), (9, 1)])
def test_an_orientation_that_exif_does_not_know_is_upright(said: int, counts: int) -> None:
    exif, made = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = said
    Image.new("RGB", (12, 8)).save(made, "JPEG", exif=exif)
    assert read(made.getvalue(), LIMITS).orientation == counts
    assert size_in_header(Image.open(made), (12, 8)) == ((12, 8) if counts >= 5 else (8, 12))


def test_the_header_of_a_png_with_xmp_is_read_without_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = png(Image.new("RGB", (20, 10)), packet("tiff", ' tiff:Orientation="6"/>').encode())

    def load(_: object) -> NoReturn:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    assert size_in_header(Image.open(io.BytesIO(upload)), (20, 10)) == (20, 10)
