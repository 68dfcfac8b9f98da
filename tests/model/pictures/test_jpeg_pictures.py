"""JPEGs: only the first picture counts, and all of its pixels have to be there."""

import base64
import io
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pytest
import pyvips
from PIL import Image

from model.pictures.errors import Damaged, NotAccepted, OverLimit
from model.pictures.reading import read, read_header
from tests.model.pictures.files import LIMITS

SCAN = b"\xff\xda"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 4},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
}

UNUSUAL_SAMPLING = {
    "3x1": base64.b85decode(
        "|JeWA07C#95)>B{5gQj47aklNASgmBC?zE*Q93;^LSR*8WM5TXTWWZjfogG(b6Z`7wT6(MqpPi}XMnuPx~9jOsH>#^+W<oW93CDh"
        "BPdQQD^8?tU2deLq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*z|G)qd2ml}e7y|(@00I#K0}%oL"
        "!~hro00IL50000000000000000|Wp80{_GSAP@io0s;a80{{R3000000003301*QO5+Vg5F+oxP!~hln0RaI3000000000000000"
        "0|5g6!~h);009I80RaF200000000000RRF65fU+BAv6El01N{G00I#M5dc2`XH~+Z1NkPS1ZO5&<X1gmN%aL5vK&d5Ac};@NKU^s"
        "1EkN%xyV5-aaoheTsWm%V-V&lXE<CnUvZ*swAx7pydEk+)XnL8W`OeySB*trtX11>fB)G"
    ),
    "1x4": base64.b85decode(
        "|JeWF01!$>Nk#wx0RR9200961|JwjV02>q%5fm2}78e^RAR8PWC?zE*D?(LZLNGl#QFv-wT~%LXWm|KQacY5?o{)yMg<WT>t*fKD"
        "$-ID>$EK^Or2pFhLjfEf9w;LyPAe-;q;6eqq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@@4A"
        "01*fP7yuvx0TciN5di}c0sq7R7ytkR0RaF20000000000000041p@;A!~h=<00RI50s;d70000000000009C65d=XYF%lCL|HJ?n"
        "0RRI5000000000000000009C61pmYU9}xfo0R#dA00000000000003300RUPArnCqA~FBk01N{G00I#M5dc2`%kPKTHX}a!FMe2E"
        "0gstFS&uqvu(KQ%ogscS+G}IW6wja>Rd>)Zi{=`RZ+Oly+DU9$>B{g0g{zNjr980TR%e$5I(`a2EIpC$k!kw?^OV#>SRSYU*#"
    ),
}
"""Pictures whose colour has a part of the columns or rows (`cjpeg -sample 3x1 -optimize -quality 30`, `jpegtran`)."""


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    """A picture of 160 x 120 px with some detail."""
    rough = numpy.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=numpy.uint8)
    made = io.BytesIO()
    Image.fromarray(rough).resize((160, 120)).convert(mode).save(made, "JPEG", quality=90, **options)
    return made.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_that_pillow_sees(kind: str) -> None:
    file = jpeg(**KINDS[kind])
    expected = numpy.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    assert (read(file, LIMITS).samples.colour == expected).all()


@pytest.mark.parametrize(
    "behind",
    [
        200 * SCAN,
        200 * (b"\0" + SCAN + b"\0"),
        numpy.random.default_rng(1).bytes(10**7),
        12 * jpeg(progressive=True),
        b"\xff\xd8" + 150 * segment(0xDA, b"\1\1\0\0\x3f\0"),
    ],
    ids=["markers", "markers apart", "a film", "a burst", "a second picture"],
)
def test_data_behind_the_picture_does_not_count(behind: bytes) -> None:
    assert (read(jpeg() + behind, LIMITS).samples.colour == read(jpeg(), LIMITS).samples.colour).all()


@pytest.mark.parametrize("marker", [0xE1, 0xE4, 0xEF, 0xFE])
def test_data_in_a_segment_does_not_count(marker: int) -> None:
    file = jpeg()
    with_segment = file[:2] + segment(marker, b"FLIR\0" + 150 * SCAN) + file[2:]
    assert (read(with_segment, LIMITS).samples.colour == read(file, LIMITS).samples.colour).all()


def test_a_second_picture_that_the_file_announces_does_not_count() -> None:
    made = io.BytesIO()
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    pictures[0].save(made, "MPO", save_all=True, append_images=pictures[1:])
    picture = read(made.getvalue(), LIMITS)
    assert picture.frames == 1
    assert picture.samples.colour[..., 0].min() > 250


@pytest.mark.parametrize("between", [b"", b"\xff\xff\xff"])
def test_scans_of_the_picture_itself_are_counted(between: bytes) -> None:
    file = jpeg(progressive=True)
    scan = file.rindex(SCAN)
    with pytest.raises(OverLimit, match="scans; the limit is 50"):
        read(file[:-2] + 100 * (between + file[scan:-2]) + b"\xff\xd9", LIMITS)


def test_very_many_segments_are_refused() -> None:
    file = jpeg()
    with pytest.raises(OverLimit, match="segments"):
        read_header(file[:2] + 30_000 * segment(0xFE, b"") + file[2:], LIMITS)


@pytest.mark.parametrize("marker", [0xC0, 0xDA])
def test_exif_in_very_many_parts_is_refused(marker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = jpeg()
    place = file.index(bytes((0xFF, marker)))
    part = segment(0xE1, b"Exif\0\0II")
    assert read_header(file[:place] + 100 * part + file[place:], LIMITS).width == 160
    monkeypatch.delattr(Image, "open")
    with pytest.raises(OverLimit, match="EXIF in 101 parts; the limit is 100"):
        read_header(file[:place] + 101 * part + file[place:], LIMITS)


def in_front_of_the_pixels(file: bytes, added: bytes) -> bytes:
    place = file.index(SCAN)
    return file[:place] + added + file[place:]


@pytest.mark.parametrize(
    ("added", "error", "said"),
    [
        (200 * segment(0xDB, 6 * (b"\0" + bytes(range(1, 65)))), OverLimit, "bytes of tables; the limit is 65536"),
        (segment(0xC0, b"\x08\0\x78\0\xa0\3" + 3 * b"\1\x11\0"), Damaged, "the second, or too long"),
    ],
    ids=["tables", "frames"],
)
def test_a_jpeg_whose_header_costs_much_is_never_opened(
    added: bytes, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Image, "open")
    with pytest.raises(error, match=said):
        read_header(in_front_of_the_pixels(jpeg(), added), LIMITS)


def test_a_frame_of_very_many_channels_is_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    file = jpeg()
    frame = file.index(b"\xff\xc0")
    long = segment(0xC0, file[frame + 4 : frame + 19] + 3 * b"\1\x11\0")
    monkeypatch.delattr(Image, "open")
    with pytest.raises(Damaged, match="too long"):
        read_header(file[:frame] + long + file[frame + 19 :], LIMITS)


@pytest.mark.parametrize(
    "added",
    [
        segment(0xED, b"Photoshop 3.0\08BIM\4\4\0\0\0\0\0\0"),
        segment(0xFE, b"a comment"),
        segment(0xF0, segment(0xED, b"Photoshop 3.0\08BIM\4\4\0\0\0\0\0\0")),
    ],
    ids=["Photoshop", "comment", "a segment that Pillow does not know"],
)
def test_no_decoder_parses_segments_that_are_not_read(added: bytes) -> None:
    file = jpeg()
    picture = read(in_front_of_the_pixels(file, added), LIMITS)
    assert (picture.samples.colour == read(file, LIMITS).samples.colour).all()
    assert picture.image.info == Image.open(io.BytesIO(file)).info


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.75, 0.95])
@pytest.mark.parametrize("end", [b"\xff\xd9", b""])
def test_a_picture_that_was_cut_off_is_damaged(kind: str, kept: float, end: bytes) -> None:
    file = jpeg(**KINDS[kind])
    with pytest.raises(Damaged, match="truncated or corrupt"):
        read(file[: int(kept * len(file))] + end, LIMITS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_from_whose_middle_bytes_are_missing_is_damaged(kind: str) -> None:
    file = jpeg(**KINDS[kind])
    half = len(file) // 2
    with pytest.raises(Damaged, match="pixels are missing"):
        read(file[:half] + file[half + 400 :], LIMITS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marker", [0x01, 0x02, 0x6D, 0xBF, 0xC0, 0xDE, 0xF0, 0xFD])
def test_a_marker_that_means_nothing_among_the_pixels_is_damage(kind: str, marker: int) -> None:
    file = bytearray(jpeg(**KINDS[kind]))
    place = file.rindex(SCAN) + (len(file) - file.rindex(SCAN)) // 2
    file[place : place + 2] = 0xFF, marker
    with pytest.raises(Damaged, match=f"pixels are missing .marker 0x{marker:02x} at byte {place}"):
        read(bytes(file), LIMITS)


RESTARTED: dict[str, dict[str, Any]] = {
    "baseline": {"restart_marker_blocks": 4},
    "by rows": {"restart_marker_rows": 1},
    "4:4:4": {"restart_marker_blocks": 7, "subsampling": "4:4:4"},
    "4:2:2": {"restart_marker_blocks": 7, "subsampling": "4:2:2"},
    "progressive": {"progressive": True, "restart_marker_blocks": 5},
    "grey": {"mode": "L", "restart_marker_blocks": 3},
    "CMYK": {"mode": "CMYK", "restart_marker_blocks": 3},
}


@pytest.mark.parametrize("kind", RESTARTED)
@pytest.mark.parametrize("behind", [b"", segment(0xFE, b"a comment"), jpeg()], ids=["nothing", "comment", "a picture"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_zeros_in_place_of_restart_markers_are_missing_pixels(kind: str, behind: bytes, end: bytes) -> None:
    file = jpeg(**RESTARTED[kind])
    last = max(file.rindex(bytes((0xFF, marker))) for marker in range(0xD0, 0xD8) if bytes((0xFF, marker)) in file)
    with pytest.raises(Damaged, match="pixels are missing"):
        read(file[:last] + bytes(20) + behind + end, LIMITS)


@pytest.mark.parametrize("kind", RESTARTED)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", segment(0xFE, b"a comment")], ids=["none", "end", "comment"])
def test_zeros_behind_the_last_restart_interval_are_padding(kind: str, end: bytes) -> None:
    file = jpeg(**RESTARTED[kind])
    padded = file[:-2] + bytes(20) + end
    assert (read(padded, LIMITS).samples.colour == read(file, LIMITS).samples.colour).all()


def test_zeros_in_place_of_restart_markers_of_an_early_scan_are_missing_pixels() -> None:
    file = jpeg(progressive=True, restart_marker_blocks=5)
    first = file.index(b"\xff\xd3", file.index(SCAN))
    following = file.index(b"\xff\xc4", first)
    with pytest.raises(Damaged, match="pixels are missing"):
        read(file[:first] + bytes(20) + file[following:], LIMITS)


@pytest.mark.parametrize("kind", ["baseline", "grey", "restarts"])
def test_a_scan_header_of_zeros_costs_no_pixels(kind: str) -> None:
    file = bytearray(jpeg(**KINDS[kind]))
    scan = file.index(SCAN)
    end = scan + 2 + int.from_bytes(file[scan + 2 : scan + 4])
    assert file[end - 3 : end] == b"\0\x3f\0"
    file[end - 3 : end] = bytes(3)
    expected = read(jpeg(**KINDS[kind]), LIMITS).samples.colour
    assert (read(bytes(file), LIMITS).samples.colour == expected).all()


def test_padding_in_front_of_the_end_costs_no_pixels() -> None:
    file = jpeg(progressive=True)
    padded = file[:-2] + bytes(20) + b"\xff\xd9"
    assert (read(padded, LIMITS).samples.colour == read(file, LIMITS).samples.colour).all()


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey"])
def test_a_height_behind_the_pixels_is_refused_by_name(kind: str) -> None:
    file = bytearray(jpeg(**KINDS[kind]))
    frame = next(file.index(start) for start in (b"\xff\xc0\0", b"\xff\xc2\0") if start in file)
    file[frame + 5 : frame + 7] = bytes(2)
    for one in (bytes(file), bytes(file[:-2]) + segment(0xDC, b"\0\x78") + b"\xff\xd9"):
        with pytest.raises(NotAccepted, match="DNL"):
            read_header(one, LIMITS)


def test_errors_of_other_pictures_do_not_hide_that_pixels_are_missing() -> None:
    damaged, done = jpeg()[:3000], threading.Event()

    def err() -> None:
        while not done.is_set():
            with pytest.raises(pyvips.Error):
                pyvips.Image.heifload_buffer(b"no picture")

    with ThreadPoolExecutor(1) as other:
        errors = other.submit(err)
        try:
            for _ in range(50):
                with pytest.raises(Damaged, match="pixels are missing"):
                    read(damaged, LIMITS)
        finally:
            done.set()
        errors.result()


@pytest.mark.parametrize("sampling", UNUSUAL_SAMPLING)
def test_a_picture_of_unusual_sampling_is_whole_or_damaged(sampling: str) -> None:
    file = UNUSUAL_SAMPLING[sampling]
    expected = numpy.asarray(Image.open(io.BytesIO(file)))
    assert (read(file, LIMITS).samples.colour == expected).all()
    with pytest.raises(Damaged, match="pixels are missing"):
        read(file[: file.index(SCAN) + 30] + b"\xff\xd9", LIMITS)


def test_a_sound_picture_is_not_judged_by_the_warnings_of_a_damaged_one() -> None:
    sound, damaged = jpeg(), jpeg()[:3000] + b"\xff\xd9"

    def reads(file: bytes) -> bool:
        try:
            read(file, LIMITS)
        except Damaged:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reads, 40 * [damaged, sound, sound, damaged])) == 40 * [False, True, True, False]


@pytest.mark.parametrize("size", [1500, 3_000_000])
@pytest.mark.parametrize("filler", [b"\0", b"\xff"], ids=["zeros", "255"])
def test_filler_in_the_header_is_passed_over(filler: bytes, size: int) -> None:
    file = jpeg()
    filled = in_front_of_the_pixels(file, size * filler)
    assert read_header(filled, LIMITS) == read_header(file, LIMITS)
    assert (read(filled, LIMITS).samples.colour == read(file, LIMITS).samples.colour).all()


def test_a_jpeg_of_filler_alone_is_damaged() -> None:
    with pytest.raises(Damaged, match="no frame behind byte 2"):
        read_header(b"\xff\xd8" + 3_000_000 * b"\xff", LIMITS)


def with_odd_frame(file: bytes, oddity: str) -> bytes:
    """The file with something that libjpeg warns of although no pixel suffers."""
    frame, scan = file.index(b"\xff\xdb"), file.index(SCAN)
    end = scan + 2 + int.from_bytes(file[scan + 2 : scan + 4])
    return {
        "scan header of zeros": file[: end - 3] + bytes(3) + file[end:],
        "data between segments": file[:frame] + b"junk" + file[frame:],
        "JFIF of another version": file.replace(b"JFIF\0\1", b"JFIF\0\3"),
        "unknown transform": file[:frame] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\7") + file[frame:],
    }[oddity]


ODDITIES = ["scan header of zeros", "data between segments", "JFIF of another version", "unknown transform"]


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("kind", ["baseline", "restarts"])
def test_an_oddity_does_not_hide_that_pixels_are_missing(kind: str, oddity: str) -> None:
    file = jpeg(**KINDS[kind])
    odd = with_odd_frame(file, oddity)
    assert (read(odd, LIMITS).samples.colour == read(file, LIMITS).samples.colour).all()
    half = len(odd) // 2
    for damaged in (odd[:half], odd[:half] + b"\xff\xd9", odd[:half] + odd[half + 400 :]):
        with pytest.raises(Damaged, match="pixels are missing"):
            read(damaged, LIMITS)


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts", "progressive with restarts", "grey"])
@pytest.mark.parametrize("behind", [b"", b"\xff", bytes(10), jpeg()], ids=["nothing", "255", "zeros", "a picture"])
def test_a_picture_that_lacks_nothing_but_its_end_is_whole(kind: str, behind: bytes) -> None:
    file = jpeg(**KINDS[kind])
    assert (read(file[:-2] + behind, LIMITS).samples.colour == read(file, LIMITS).samples.colour).all()


def test_a_picture_that_ends_in_a_segment_is_damaged() -> None:
    file = jpeg(progressive=True)
    with pytest.raises(Damaged, match="within a segment"):
        read(file[: file.rindex(SCAN) + 6], LIMITS)
