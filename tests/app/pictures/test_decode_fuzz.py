"""Damaged files: the right error or a picture, never anything else, and in bounded memory."""

import contextlib
import resource
import zlib
from random import Random

import pytest

from app.errors import TooLarge, Unprocessable, UnsupportedFormat
from app.pictures.decode import decode, prepare_decoders, read_header
from model.pictures.png_structure import PNG_SIGNATURE
from tests.app.pictures.files import FILES, LIMITS

pytestmark = pytest.mark.filterwarnings("ignore")
prepare_decoders()

REFUSALS = (TooLarge, Unprocessable, UnsupportedFormat)
MAX_GROWTH_KB = 200_000


def damaged(whole: bytes, other: bytes, random: Random) -> bytes:
    """Damage a file: some bytes changed, cut out, doubled, or taken from another file."""
    file = bytearray(whole)
    for _ in range(random.randint(1, 4)):
        start, size = random.randrange(len(file)), random.choice((1, 2, 4, 20))
        match random.randrange(6):
            case 0:
                file[start : start + size] = random.randbytes(size)
            case 1:
                file[start] ^= 1 << random.randrange(8)
            case 2:
                file[start : start + size] = random.choice((b"\0", b"\xff", b"\x7f")) * size
            case 3:
                del file[start : start + size]
            case 4:
                file[start:start] = other[start : start + 8 * size]
            case _:
                del file[max(1, start) :]
        if not file:
            break
    return _with_right_checksums(bytes(file)) if random.random() < 0.5 else bytes(file) or b"\0"


def _with_right_checksums(file: bytes) -> bytes:
    """Correct the checksums of a damaged PNG, as an attacker would; return other files as they are."""
    if not file.startswith(PNG_SIGNATURE):
        return file or b"\0"
    whole, location = bytearray(file), len(PNG_SIGNATURE)
    while location + 12 <= len(whole):
        end = location + 8 + int.from_bytes(whole[location : location + 4])
        whole[end : end + 4] = zlib.crc32(whole[location + 4 : end]).to_bytes(4)
        location = end + 4
    return bytes(whole)


def decode_damaged(rounds: int, seed: int) -> None:
    random = Random(seed)
    files = [make() for make in FILES.values()]
    for _ in range(rounds):
        for whole in files:
            upload = damaged(whole, random.choice(files), random)
            with contextlib.suppress(*REFUSALS):
                read_header(upload, LIMITS)
                picture = decode(upload, LIMITS)
                assert picture.width * picture.height <= LIMITS.max_picture_px


def test_a_damaged_file_is_refused_or_decoded() -> None:
    decode_damaged(rounds=10, seed=1)


@pytest.mark.slow
def test_many_damaged_files_are_refused_or_decoded_in_bounded_memory() -> None:
    decode_damaged(rounds=50, seed=2)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decode_damaged(rounds=1500, seed=3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < MAX_GROWTH_KB
