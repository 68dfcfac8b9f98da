"""Compresses filtered rows of a PNG with deflate (RFC 1951), in pieces that end on a byte boundary.

By default, the compiled code uses only Huffman codes and runs of equal bytes; the fallback, ISA-L, also looks for
repeats. Filtered rows of photographs and of network outputs have few repeats worth coding, so the first is several
times as fast. `small` looks for repeats with zlib: its files are ten to thirty percent smaller, and take many times as
long.
"""

import zlib
from typing import Literal

import numpy
from isal import isal_zlib
from numpy.typing import NDArray

from app.png.compiled import compiled

Bytes = NDArray[numpy.uint8]

ISAL_LEVEL = 2
"""Level 3 takes 50 % longer for files at most 0.5 % smaller; level 1 is as fast, with files up to 3 % larger."""
RAW_DEFLATE = -15

ZLIB_LEVEL = 6
"""Level 9 took eight times as long for photographs, and made files at most six percent smaller."""

Compression = Literal["fast", "small"]


def max_deflated_bytes(size: int) -> int:
    """Return the maximum size of a result: codes have at most twelve bits, and blocks have heads."""
    return size + size // 2 + 512


def deflated(
    filtered: Bytes, *, last: bool, work: Bytes, compression: Compression = "fast"
) -> tuple[memoryview | bytes, ...]:
    """Compress bytes to deflate blocks that start and end on a byte boundary, in parts.

    Args:
        filtered: contiguous.
        last: True at the end of the stream.
        work: at least `max_deflated_bytes` bytes; the result may be a view of it.
        compression: `small` also looks for repeats, with zlib, and takes the smaller result.
    """
    fast = _fast(filtered, last=last, work=work)
    if compression == "fast":
        return fast
    zipper = zlib.compressobj(ZLIB_LEVEL, wbits=RAW_DEFLATE, memLevel=9)
    small = zipper.compress(filtered.data), zipper.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
    return min(small, fast, key=lambda parts: sum(map(len, parts)))


def _fast(filtered: Bytes, *, last: bool, work: Bytes) -> tuple[memoryview | bytes, ...]:
    deflate = compiled("deflate_bytes")
    if deflate is not None:
        return (work.data[: deflate(filtered.ctypes.data, filtered.size, last, work.ctypes.data)],)
    compressor = isal_zlib.compressobj(ISAL_LEVEL, wbits=RAW_DEFLATE)
    return compressor.compress(filtered), compressor.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH)
