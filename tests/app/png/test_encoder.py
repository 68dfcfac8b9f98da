"""The PNG encoder: independent readers decode its files, and it works while rows arrive."""

import asyncio
import io
import itertools
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy
import png
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.png import deflate as png_deflate
from app.png import encoder
from app.png import filters as png_filters
from app.png.encoder import PngLayout, png_pieces
from app.png.filters import SampleArray


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as it:
        yield it


async def from_list(pieces: Sequence[SampleArray]) -> AsyncIterator[SampleArray]:
    for piece in pieces:
        yield piece


def layout_of(pixels: SampleArray, **metadata: object) -> PngLayout:
    height, width, channels = pixels.shape
    return PngLayout(width=width, height=height, channels=channels, bits=8 * pixels.dtype.itemsize, **metadata)  # type: ignore[arg-type]  # by name


def encode(layout: PngLayout, pieces: Sequence[SampleArray], pool: ThreadPoolExecutor) -> bytes:
    async def collect() -> bytes:
        return b"".join([piece async for piece in png_pieces(layout, from_list(pieces), pool)])

    return asyncio.run(collect())


def chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        kind, body = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", file, at + 8 + length)[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + length
    return found


def idat(file: bytes) -> bytes:
    return b"".join(body for kind, body in chunks(file) if kind == b"IDAT")


def read_by_pypng(file: bytes) -> SampleArray:
    """Decode the samples with a pure Python reader that shares no code with the encoder."""
    width, height, rows, info = png.Reader(bytes=file).read()
    dtype = numpy.uint16 if info["bitdepth"] == 16 else numpy.uint8
    samples = numpy.array([numpy.frombuffer(row, dtype) for row in rows], dtype).reshape(height, width, -1)
    assert samples.shape[2] == info["planes"]
    return cast(SampleArray, samples)


def some_pixels(height: int, width: int, channels: int, bits: int, seed: int = 0) -> SampleArray:
    """Make rows for every filter: a smooth slope, a flat part, noise and full contrast."""
    random = numpy.random.default_rng(seed)
    dtype, most = (numpy.uint8, 255) if bits == 8 else (numpy.uint16, 65535)
    y, x, c = numpy.ogrid[:height, :width, :channels]
    slope = (x * 3 + y * 2 + c * 40) * (most // 255) % (most + 1)
    noise = random.integers(0, most + 1, (height, width, channels))
    kinds = numpy.stack((slope + 0 * c, noise, 0 * noise + most // 3, noise // (most // 2 + 1) * most, slope // 2))
    return cast(
        SampleArray, numpy.take_along_axis(kinds, random.integers(0, 5, (1, height, 1, 1)), axis=0)[0].astype(dtype)
    )


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 70),
    channels=st.integers(1, 4),
    bits=st.sampled_from((8, 16)),
    strip_rows=st.integers(1, 50),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    seed=st.integers(0, 999),
)
def test_an_independent_reader_returns_every_sample(
    height: int, width: int, channels: int, bits: int, strip_rows: int, cuts: list[int], seed: int
) -> None:
    pixels = some_pixels(height, width, channels, bits, seed)
    at = sorted({0, height, *(cut for cut in cuts if cut < height)})
    pieces = [pixels[top:end] for top, end in itertools.pairwise(at)]
    with ThreadPoolExecutor(2) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "STRIP_BYTES", {"fast": strip_rows * width * channels * bits // 8})
        file = encode(layout_of(pixels), pieces, pool)
    assert (read_by_pypng(file) == pixels).all()
    if bits == 8:
        with Image.open(io.BytesIO(file)) as image:
            assert (numpy.asarray(image).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20_000), (20_000, 1), (3, 65_500), (700, 900)])
@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_of_odd_shapes_are_read_back(height: int, width: int, channels: int, pool: ThreadPoolExecutor) -> None:
    pixels = some_pixels(height, width, channels, 8)
    with Image.open(io.BytesIO(encode(layout_of(pixels), [pixels], pool))) as image:
        assert (numpy.asarray(image).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_every_filter_is_chosen_somewhere_and_undone_by_a_reader(bits: int, pool: ThreadPoolExecutor) -> None:
    pixels = some_pixels(400, 300, 3, bits)
    file = encode(layout_of(pixels), [pixels], pool)
    rows = numpy.frombuffer(zlib.decompress(idat(file)), numpy.uint8).reshape(400, -1)
    assert set(rows[:, 0]) == set(range(5))
    assert (read_by_pypng(file) == pixels).all()


def test_a_reader_gets_the_same_picture_where_nothing_is_compiled(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = some_pixels(300, 400, 3, 16)
    for part in (png_filters, png_deflate):
        monkeypatch.setattr(part, "compiled", lambda name: None)
    assert (read_by_pypng(encode(layout_of(pixels), [pixels], pool)) == pixels).all()


def test_rows_of_any_heights_make_the_same_file(pool: ThreadPoolExecutor) -> None:
    pixels = some_pixels(900, 500, 3, 8)
    whole = encode(layout_of(pixels), [pixels], pool)
    assert encode(layout_of(pixels), [pixels[n : n + 7] for n in range(0, 900, 7)], pool) == whole
    assert len([kind for kind, _ in chunks(whole) if kind == b"IDAT"]) > 3  # several strips


def test_beside_a_profile_the_file_does_not_claim_to_be_srgb(pool: ThreadPoolExecutor) -> None:
    pixels, colours = some_pixels(5, 5, 3, 8), [(b"sRGB", b"\0"), (b"gAMA", (45_455).to_bytes(4))]
    for profile, named in ((None, [b"sRGB", b"gAMA"]), (b"profile", [b"iCCP", b"gAMA"])):
        file = encode(layout_of(pixels, icc_profile=profile, colours=colours), [pixels], pool)
        assert [kind for kind, _ in chunks(file)][1:3] == named


def test_metadata_precedes_the_pixels(pool: ThreadPoolExecutor) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    xmp = "<x:xmpmeta xmlns:x='adobe:ns:meta/'>größer</x:xmpmeta>".encode()
    pixels = some_pixels(5, 5, 3, 8)
    layout = layout_of(pixels, icc_profile=b"profile" * 99, exif=exif.tobytes(), xmp=xmp, dpi=(300, 72))
    file = encode(layout, [pixels], pool)
    kinds = [kind for kind, _ in chunks(file)]
    assert kinds[:5] == [b"IHDR", b"iCCP", b"pHYs", b"eXIf", b"iTXt"]
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        assert image.info["icc_profile"] == b"profile" * 99
        assert image.info["xmp"] == xmp
        assert image.info["dpi"] == pytest.approx((300, 72), abs=0.01)
        assert image.getexif()[0x010F] == "a camera"


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": 2**31}, {"channels": 5}, {"bits": 4}])
def test_an_impossible_layout_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        PngLayout(**({"width": 1, "height": 1, "channels": 1, "bits": 8} | wrong))  # type: ignore[arg-type]  # ints


@pytest.mark.parametrize("height", [9, 11])
def test_too_few_or_too_many_rows_never_make_a_complete_file(height: int, pool: ThreadPoolExecutor) -> None:
    async def collect() -> None:
        pixels = some_pixels(height, 5, 3, 8)
        layout = PngLayout(width=5, height=10, channels=3, bits=8)
        sent.extend([piece async for piece in png_pieces(layout, from_list([pixels]), pool)])

    sent: list[bytes] = []
    with pytest.raises(ValueError, match="rows"):
        asyncio.run(collect())
    assert b"IEND" not in b"".join(sent)


def test_strips_are_yielded_before_more_rows_are_requested(pool: ThreadPoolExecutor) -> None:
    pixels = some_pixels(300, 700, 3, 8)

    async def check() -> None:
        asked = 0

        async def one_strip_at_a_time() -> AsyncIterator[SampleArray]:
            nonlocal asked
            for top in range(0, 300, layout.strip_rows):
                asked += 1
                yield pixels[top : top + layout.strip_rows]

        layout = layout_of(pixels)
        pieces = png_pieces(layout, one_strip_at_a_time(), pool)
        await anext(pieces)
        assert asked == 0
        await anext(pieces)
        assert asked == 1
        await pieces.aclose()

    asyncio.run(check())


def test_an_abandoned_encoder_drops_strips_that_no_thread_has_started() -> None:
    pixels = some_pixels(2000, 1000, 3, 8)
    threads_before = threading.active_count()
    begun = 0

    async def check(pool: ThreadPoolExecutor) -> None:
        pieces = png_pieces(layout_of(pixels), from_list([pixels]), pool, ahead=8)
        await anext(pieces)
        await anext(pieces)
        await pieces.aclose()
        await asyncio.sleep(0)  # the event loop cancels the pool's calls
        gate.set()

    gate = threading.Event()
    original = encoder._deflate

    def counting(*arguments: object) -> object:
        nonlocal begun
        begun += 1
        assert begun == 1 or gate.wait(60)
        return original(*arguments)  # type: ignore[arg-type]  # handed on

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(encoder, "_deflate", counting)
        asyncio.run(check(pool))
    assert begun <= 2  # one strip that is done, and one that its thread had started
    assert threading.active_count() == threads_before
