"""Filtered rows of a PNG -> deflate (RFC 1951), in pieces that end on a byte boundary.

Compiled, by Huffman codes and runs of equal bytes only; else by ISA-L, which looks for repeats too. What a filter
leaves of a photograph or of a network's answer has none that pay, so the first is several times as fast and mostly
smaller.
"""

import numpy
from isal import isal_zlib
from numpy.typing import NDArray

from app.png.compiled import compiled

Bytes = NDArray[numpy.uint8]

ISAL_LEVEL = 2
"""3 takes half as long again for at most half a percent, 1 is as fast and up to three percent larger."""
RAW_DEFLATE = -15


def room(size: int) -> int:
    """Bytes that `deflated` may need for a size: no code has more than twelve bits, and blocks have heads."""
    return size + size // 2 + 512


def deflated(filtered: Bytes, *, last: bool, work: Bytes) -> tuple[memoryview | bytes, ...]:
    """Bytes as a run of deflate blocks that starts and ends on a byte boundary, in parts.

    Args:
        filtered: contiguous.
        last: whether the stream ends with it.
        work: memory of at least `room` bytes; the result may lie there.
    """
    deflate = compiled("deflate_bytes")
    if deflate is not None:
        return (work.data[: deflate(filtered.ctypes.data, filtered.size, last, work.ctypes.data)],)
    compressor = isal_zlib.compressobj(ISAL_LEVEL, wbits=RAW_DEFLATE)
    return compressor.compress(filtered), compressor.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH)
