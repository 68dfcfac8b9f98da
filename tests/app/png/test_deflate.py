"""Deflate for filtered rows: zlib returns any input, compiled or not."""

import zlib
from collections.abc import Sequence

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.png import deflate as png_deflate
from app.png.compiled import compiled
from app.png.deflate import Bytes, deflated, max_deflated_bytes

BLOCK = 128 * 1024


@pytest.fixture(params=["in C", "by ISA-L"])
def _each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by ISA-L":
        monkeypatch.setattr(png_deflate, "compiled", lambda name: None)
    elif compiled("deflate_bytes") is None:
        pytest.skip("nothing is compiled here: `make native`")


each_way = pytest.mark.usefixtures("_each_way")


def stream(pieces: Sequence[Bytes]) -> bytes:
    """Compress each piece by itself and join the results."""
    work = numpy.full(max(max_deflated_bytes(piece.size) for piece in pieces), 99, numpy.uint8)
    parts = [b"".join(deflated(piece, last=piece is pieces[-1], work=work)) for piece in pieces]
    return b"".join(parts)


def inflated(file: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=-15)
    read = reader.decompress(file)
    assert reader.eof
    assert not reader.unused_data
    return read


def noise(size: int, levels: int = 256, seed: int = 0) -> Bytes:
    return numpy.random.default_rng(seed).integers(0, levels, size).astype(numpy.uint8)


some_bytes = st.one_of(
    st.builds(noise, st.integers(1, 300), st.sampled_from((1, 2, 3, 17, 256)), st.integers(0, 99)),
    st.builds(numpy.full, st.integers(1, 1200), st.integers(0, 255), st.just(numpy.uint8)),
)


@each_way
@settings(deadline=None, max_examples=60)
@given(pieces=st.lists(st.lists(some_bytes, min_size=1, max_size=9), min_size=1, max_size=4))
def test_pieces_joined_in_order_are_one_stream(pieces: list[list[Bytes]]) -> None:
    joined = [numpy.concatenate(parts) for parts in pieces]
    assert inflated(stream(joined)) == numpy.concatenate(joined).tobytes()


@each_way
@pytest.mark.parametrize("length", [*range(1, 70), *range(250, 300), *range(510, 550), 100_000])
def test_runs_of_any_length_are_read_back(length: int) -> None:
    for before in (0, 1, 5):
        run = numpy.concatenate((noise(before), numpy.zeros(length, numpy.uint8), noise(3)))
        assert inflated(stream([run])) == run.tobytes()


@each_way
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize("levels", [1, 2, 256])
def test_blocks_end_on_byte_boundaries(size: int, levels: int) -> None:
    pieces = [noise(size, levels), noise(size, levels, seed=1)]
    assert inflated(stream(pieces)) == pieces[0].tobytes() + pieces[1].tobytes()


@each_way
def test_codes_of_very_rare_bytes_are_not_too_long() -> None:
    counts = [1, 1]
    while sum(counts) < BLOCK - 50_000:
        counts.append(counts[-1] + counts[-2])  # Fibonacci numbers make the deepest trees
    skewed = numpy.random.default_rng(0).permutation(numpy.arange(len(counts), dtype=numpy.uint8).repeat(counts))
    assert inflated(stream([skewed])) == skewed.tobytes()


@each_way
@pytest.mark.parametrize("size", [1, 2, 100, 5000, 3 * BLOCK])
def test_noise_does_not_exceed_the_maximum_size(size: int) -> None:
    parts = deflated(noise(size), last=False, work=numpy.empty(max_deflated_bytes(size), numpy.uint8))
    assert sum(map(len, parts)) <= size + size // 500 + 300
