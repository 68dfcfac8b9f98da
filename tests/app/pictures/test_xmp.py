"""XMP: packets in any encoding and with any prefixes are read, and only properties valid for the answer are kept."""

import hashlib
import resource
import struct
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pictures import xmp as reader
from app.pictures.xmp import EXTENSION_NAME, kept_xmp
from app.pictures.xmp_names import KEPT, LOCATION
from tests.app.pictures.metadata_files import NAMESPACES, RDF, TITLE, xmp

RDF_URI = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def values(packet: bytes | None) -> set[str]:
    """Return all names, attributes and texts of a packet."""
    assert packet is not None
    root = ElementTree.fromstring(packet.decode())
    found = set()
    for element in root.iter():
        found |= {element.tag, *element.attrib, *element.attrib.values(), (element.text or "").strip()}
    return found


def named(prefix: str, name: str) -> str:
    return "{" + NAMESPACES[prefix] + "}" + name


PLACES = [
    ('exif:GPSLatitude="59,20N"', "<exif:GPSLongitude>59,20N</exif:GPSLongitude>"),
    ('drone-dji:GpsLatitude="59,20N"', "<drone-dji:Latitude>59,20N</drone-dji:Latitude>"),
    ('photoshop:City="59,20N"', "<photoshop:Country>59,20N</photoshop:Country>"),
    ('Iptc4xmpCore:Location="59,20N"', "<Iptc4xmpCore:CountryCode>59,20N</Iptc4xmpCore:CountryCode>"),
    (
        "",
        "<Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li rdf:parseType='Resource'><Iptc4xmpExt:City>59,20N"
        "</Iptc4xmpExt:City></rdf:li></rdf:Bag></Iptc4xmpExt:LocationShown>",
    ),
    (
        "",
        "<Iptc4xmpCore:CreatorContactInfo Iptc4xmpCore:CiAdrCity='59,20N' Iptc4xmpCore:CiEmailWork='a@example.org'/>",
    ),
    ("", "<dc:coverage>59,20N</dc:coverage>"),
]
OUR_OWN = [
    ('mine:Position="59,20N"', "<mine:Coordinates><rdf:Bag><rdf:li>59,20N</rdf:li></rdf:Bag></mine:Coordinates>"),
    ("", "<dc:title><rdf:Alt><rdf:li><rdf:Description exif:GPSLatitude='59,20N'/></rdf:li></rdf:Alt></dc:title>"),
    ("", "<dc:source><mine:deep><mine:deeper>59,20N</mine:deeper></mine:deep></dc:source>"),
    ("", "<dc:source rdf:parseType='Literal'><exif:GPSLatitude>59,20N</exif:GPSLatitude></dc:source>"),
    ("", "<mine:Typed><rdf:Description><exif:GPSLatitude>59,20N</exif:GPSLatitude></rdf:Description></mine:Typed>"),
    ("", "<plus:Licensor><rdf:Seq><rdf:li plus:LicensorCity='59,20N'/></rdf:Seq></plus:Licensor>"),
    ("", "<dc:subject><rdf:Bag>59,20N</rdf:Bag></dc:subject>"),
    ("", "<xml:lang>59,20N</xml:lang>"),
    (
        "",
        "</rdf:Description><rdf:Description rdf:about='geo:59,20N' dc:source='roll 7' xmlns:dc='http://purl.org/dc/elements/1.1/'>",
    ),
]
CLAIMS = [
    ('hdrgm:Version="1.0"', ""),
    ('GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="4123"', ""),
    (
        "",
        "<Container:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'><Container:Item Item:Semantic='GainMap' "
        "Item:Length='34000'/></rdf:li></rdf:Seq></Container:Directory>",
    ),
    ('tiff:ImageWidth="32" exif:PixelXDimension="32" tiff:BitsPerSample="8" tiff:Orientation="6"', ""),
    ("", "<tiff:Orientation>6</tiff:Orientation><exif:PixelYDimension>24</exif:PixelYDimension>"),
    ('GPano:FullPanoWidthPixels="32" GPano:CroppedAreaLeftPixels="3"', ""),
    ('crs:HasCrop="True" xmpMM:InstanceID="xmp.iid:1" photoshop:ICCProfile="Adobe RGB (1998)"', ""),
    ('exif:ColorSpace="65535" dc:format="image/jpeg" xmpNote:HasExtendedXMP="0"', ""),
]


@pytest.mark.parametrize(("attributes", "elements"), [*PLACES, *OUR_OWN])
def test_the_location_is_dropped_however_it_is_written(attributes: str, elements: str) -> None:
    packet = kept_xmp(xmp(elements, attributes).encode())
    assert "Quay" in values(packet)
    assert b"59,20N" not in (packet or b"")


@pytest.mark.parametrize(("attributes", "elements"), PLACES)
def test_the_location_is_kept_on_request(attributes: str, elements: str) -> None:
    packet = kept_xmp(xmp(elements, attributes).encode(), location=True)
    assert "59,20N" in values(packet)


@pytest.mark.parametrize(("attributes", "elements"), CLAIMS)
@pytest.mark.parametrize("location", [True, False])
def test_properties_of_the_old_file_only_are_dropped(attributes: str, elements: str, location: bool) -> None:
    assert kept_xmp(xmp(elements, attributes).encode(), location=location) == kept_xmp(
        xmp().encode(), location=location
    )


def test_the_rest_of_a_structure_is_kept() -> None:
    _, contact = PLACES[5]
    assert "a@example.org" in values(kept_xmp(xmp(contact).encode()))


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"],
)
def test_a_packet_is_read_in_any_encoding(encoding: str) -> None:
    said = xmp('<dc:creator>Jörg "Ö" &lt;&amp;&gt;</dc:creator>', 'exif:GPSLatitude="59,20N"').replace("\ufeff", "")
    packet = kept_xmp(said.encode(encoding) + b"\0\0\0\0")
    assert packet == kept_xmp(said.encode())
    assert {"Quay", 'Jörg "Ö" <&>'} <= values(packet)


def test_an_xml_declaration_does_not_confuse_the_reader() -> None:
    said = '<?xml version="1.0" encoding="UTF-16"?>' + xmp()
    assert "Quay" in values(kept_xmp(said.encode("utf-16")))


def test_elements_that_are_empty_without_the_location_are_dropped() -> None:
    address = "<rdf:Description> <Iptc4xmpCore:CiAdrCity>Bern</Iptc4xmpCore:CiAdrCity> </rdf:Description>"
    said = f"<Iptc4xmpCore:CreatorContactInfo>\n{address}\n</Iptc4xmpCore:CreatorContactInfo>"
    assert values(kept_xmp(xmp(said).encode())) == values(kept_xmp(xmp().encode()))
    assert kept_xmp(xmp(said, title="").encode()) is None


def test_namespaces_are_recognised_by_their_uri_and_not_by_their_prefix() -> None:
    said = (
        f"<rdf:RDF {RDF}><rdf:Description xmlns:dc='{NAMESPACES['exif']}' xmlns:exif='{NAMESPACES['dc']}' "
        "dc:GPSLatitude='59,20N' exif:title='Quay'><source xmlns='http://purl.org/dc/elements/1.1/'>roll 7</source>"
        "</rdf:Description></rdf:RDF>"
    )
    packet = kept_xmp(said.encode())
    assert packet is not None
    assert b' dc:title="Quay"' in packet
    assert {named("dc", "source"), "roll 7"} <= values(packet)
    assert b"59,20N" not in packet


def test_the_rating_of_windows_is_kept_under_both_of_its_uris() -> None:
    uris = ("http://ns.microsoft.com/photo/1.0/", "http://ns.microsoft.com/photo/1.0")
    for chosen in (uris[:1], uris[1:], uris):
        ratings = "".join(f'<p:Rating xmlns:p="{uri}">{len(uri)}</p:Rating>' for uri in chosen)
        root = ElementTree.fromstring(kept_xmp(xmp(ratings).encode()) or b"")
        assert [root.findtext(f".//{{{uri}}}Rating") for uri in chosen] == [str(len(uri)) for uri in chosen]


def test_every_namespace_has_a_prefix_of_its_own() -> None:
    prefixes = {uri: prefix for names in (KEPT, LOCATION) for uri, (prefix, _) in names.items()}
    assert len({*prefixes.values()}) == len(prefixes)


def test_text_and_attributes_are_escaped() -> None:
    strange = "&quot;&apos;&lt;&amp;&#13;&#10;]]&gt;"
    packet = kept_xmp(xmp(f"<dc:source>{strange}</dc:source>", f'dc:rights="{strange}"').encode())
    assert packet is not None
    description = ElementTree.fromstring(packet.decode()).find(f"{RDF_URI}RDF/{RDF_URI}Description")
    assert description is not None
    assert description.get(named("dc", "rights")) == "\"'<&\r\n]]>"
    source = description.find(named("dc", "source"))
    assert source is not None
    assert source.text == "\"'<&\r\n]]>"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no packet",
        "<a:GPSOddity/>",
        xmp(title=""),
        xmp()[:-80],
        xmp().replace("</dc:title>", ""),
        TITLE,
        '<!DOCTYPE x [<!ENTITY a "b">]>' + xmp().replace("Quay", "&a;"),
        "<!DOCTYPE x SYSTEM 'file:///etc/hostname'>" + xmp(),
        xmp(TITLE * (reader.MAX_BYTES // len(TITLE))),
    ],
)
def test_a_broken_dangerous_or_empty_packet_is_dropped(said: str) -> None:
    assert kept_xmp(said.encode()) is None


@pytest.mark.parametrize("kind", ["attributes", "elements"])
def test_a_long_namespace_is_not_copied_for_each_name(kind: str) -> None:
    names = "".join(f" q:a{number}=''" for number in range(3000)) if kind == "attributes" else ""
    inner = "" if names else 20_000 * "<q:a/>"
    packet = (
        f"<rdf:RDF {RDF} xmlns:q='{500_000 * 'u'}'><rdf:Description{names}>{inner}"
        f"<dc:rights xmlns:dc='http://purl.org/dc/elements/1.1/'>kept</dc:rights></rdf:Description></rdf:RDF>"
    )
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert b"kept" in (kept_xmp(packet.encode()) or b"")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_prefixes_mean_what_the_innermost_element_says() -> None:
    packet = (
        f"<r:RDF xmlns:r='{reader.RDF}' xmlns='http://purl.org/dc/elements/1.1/'><r:Description>"
        "<rights xmlns='urn:other'>dropped</rights><rights>kept</rights></r:Description>"
        "<r:Description xmlns:r='urn:other'>dropped</r:Description></r:RDF>"
    )
    kept = kept_xmp(packet.encode()) or b""
    assert b"kept" in kept
    assert b"dropped" not in kept


def test_the_nesting_of_elements_is_limited() -> None:
    deep = "<dc:source>" * 5000 + "59,20N" + "</dc:source>" * 5000
    packet = kept_xmp(xmp(deep).encode())
    assert "Quay" in values(packet)
    assert (packet or b"").count(b"<dc:source>") < reader.MAX_DEPTH


def parts_of(packet: bytes, identity: bytes | None = None, size: int = 40) -> list[bytes]:
    name = identity or hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    return [
        EXTENSION_NAME + name + struct.pack(">II", len(packet), at) + packet[at : at + size]
        for at in range(0, len(packet), size)
    ]


EXTENSION = xmp("<dc:source>roll 7</dc:source><exif:GPSLatitude>59,20N</exif:GPSLatitude>", title="").encode()
IDENTITY = hashlib.md5(EXTENSION, usedforsecurity=False).hexdigest().upper()
MAIN = [
    xmp(attributes=f'xmpNote:HasExtendedXMP="{IDENTITY}"').encode(),
    xmp(f"<xmpNote:HasExtendedXMP>{IDENTITY}</xmpNote:HasExtendedXMP>").encode("utf-16"),
]


@pytest.mark.parametrize("main", MAIN)
def test_an_extended_packet_is_joined_and_filtered(main: bytes) -> None:
    packet = kept_xmp(main, reversed(parts_of(EXTENSION)))
    assert {"Quay", "roll 7"} <= values(packet)
    assert b"59,20N" not in (packet or b"")
    assert b"HasExtendedXMP" not in (packet or b"")


@pytest.mark.parametrize(
    "parts",
    [
        parts_of(EXTENSION)[1:],
        parts_of(EXTENSION)[:-1],
        parts_of(EXTENSION)[:2] + parts_of(EXTENSION)[3:],
        parts_of(EXTENSION, b"0" * 32),
        parts_of(b"<broken", IDENTITY.encode()),
        [EXTENSION_NAME + IDENTITY.encode()],
    ],
)
def test_an_incomplete_extended_packet_is_ignored(parts: list[bytes]) -> None:
    assert kept_xmp(MAIN[0], parts) == kept_xmp(xmp().encode())


WORDS = (
    "< > / ' \" & ; = 59,20N <dc:title> </dc:title> <rdf:li> </rdf:li> <![CDATA[ ]]> <!-- --> <? ?> <!DOCTYPE &#0; &lt;"
)
SNIPPETS = st.sampled_from([*WORDS.split(), " ", " exif:GPSLatitude='59,20N' ", "\ud800"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(xmp())), SNIPPETS | st.text(max_size=3)), min_size=1, max_size=8))
def test_damage_never_produces_invalid_xml(damage: list[tuple[int, str]]) -> None:
    said = xmp("<exif:GPSLatitude/>")
    for at, what in damage:
        said = said[:at] + what + said[at:]
    packet = kept_xmp(said.encode("utf-8", "surrogatepass"))
    if packet:
        assert not any(name.startswith(named("exif", "")) for name in values(packet))
        assert kept_xmp(packet) == packet


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((b"", b"<\0", b"\0<", b"\xff\xfe", b"\xfe\xff\0<", b"<?xml?>")), st.binary(max_size=100))
def test_arbitrary_bytes_are_handled(start: bytes, data: bytes) -> None:
    assert kept_xmp(start + data, [EXTENSION_NAME + data]) is None
