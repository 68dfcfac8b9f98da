"""Pixels of the frames in AV1 data, from their headers: the boxes around them may say anything.

AV1 Bitstream & Decoding Process Specification, sections 5.3 to 5.9.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from model.pictures.errors import Damaged, OverLimit
from model.pictures.units import Units

SEQUENCE_HEADER, FRAMES = 1, frozenset({3, 6, 7})
"""Types of OBUs: a sequence header, and frame headers alone, with the frame, or repeated."""

MAX_HEADERS = 20
"""Maximum headers of sequences and frames in a picture: four layers have two each."""

MAX_HEADER_BYTES = 512
"""Bytes read of a header; the fields read here are shorter."""

KEY_FRAME, SWITCH_FRAME = 0, 3
SELECT = 2
"""SELECT_SCREEN_CONTENT_TOOLS and SELECT_INTEGER_MV: each frame turns the tool on or off."""


class _Bits:
    """Reads numbers bit by bit."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int = 1) -> int:
        """Return the number of the next bits."""
        self._left -= count
        if self._left < 0:
            raise Damaged("the AVIF file is truncated or corrupt: a header of its pixels ends too early")
        return self._number >> self._left & (1 << count) - 1

    def take_if(self, condition: int, count: int = 1) -> int:
        """Return the number of the next bits where they are there; else 0."""
        return self.take(count) if condition else 0


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    """Fields of a sequence header."""

    width: int
    height: int
    """Size of a frame without one of its own."""
    sides_bits: tuple[int, int]
    """Bits of width and height of a frame that has its own."""
    reduced_still_picture_header: bool
    """Its frame header has only what a still picture needs."""
    time_bits: int
    """Bits of the time of a frame; 0 without one."""
    has_decoder_model: bool
    id_bits: int
    order_hint_bits: int
    force_screen_content_tools: int
    force_integer_mv: int

    @property
    def px(self) -> int:
        """Pixels of a frame without a size of its own."""
        return self.width * self.height

    @property
    def most_px(self) -> int:
        """Maximum pixels of a frame that has its own."""
        return max(self.width, 1 << self.sides_bits[0]) * max(self.height, 1 << self.sides_bits[1])


def frame_px(data: bytes | memoryview, units: Units) -> int:
    """Return the pixels of all frames in the data of a picture, hidden ones included.

    Args:
        units: counts the OBUs of the file.

    Raises:
        Damaged: the data does not begin with a frame that can be decoded alone.
        OverLimit: more OBUs than a file may have, or more than `MAX_HEADERS`.
    """
    sequence, px, largest_px, headers = None, 0, 0, 0
    for kind, body in _obus(data, units):
        headers += kind == SEQUENCE_HEADER or kind in FRAMES
        if headers > MAX_HEADERS:
            raise OverLimit(
                f"a picture in the AVIF has more than {MAX_HEADERS} headers, which is the limit; save it again"
            )
        if kind == SEQUENCE_HEADER:
            sequence = _sequence(_Bits(body))
        elif kind in FRAMES:
            if sequence is None:
                raise Damaged("the AVIF file is corrupt: its pixels do not begin with a sequence header")
            is_key, frame = _frame(_Bits(body), sequence)
            if not (is_key or largest_px):
                raise Damaged("the AVIF file is corrupt: its pixels do not begin with a key frame")
            largest_px = max(largest_px, frame)
            px += largest_px  # a frame may have the size of an earlier one
    return px


def _obus(data: bytes | memoryview, units: Units) -> Iterator[tuple[int, bytes]]:
    """Yield type and first bytes of each OBU, as far as they are whole."""
    place = 0
    while place < len(data):
        units.count()
        head = data[place]
        place += 2 if head & 4 else 1
        size = len(data) - place
        if head & 2:
            size, place = _size(data, place)
        yield head >> 3 & 15, bytes(data[place : min(place + size, place + MAX_HEADER_BYTES)])
        place += size


def _size(data: bytes | memoryview, place: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and the place behind it."""
    size = 0
    for index, byte in enumerate(data[place : place + 8]):
        size |= (byte & 127) << 7 * index
        if byte < 128:
            return size, place + index + 1
    return 0, len(data)


def _sequence(bits: _Bits) -> _Sequence:
    bits.take(4)  # profile, and whether there is a single frame
    reduced, time_bits, has_decoder_model = bits.take(), 0, False
    if reduced:
        bits.take(5)  # level
    else:
        time_bits, has_decoder_model = _operating_points(bits)
    sides_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = (bits.take(count) + 1 for count in sides_bits)
    id_bits, order_hint_bits, force_screen_content_tools, force_integer_mv = 0, 0, SELECT, SELECT
    if not reduced and bits.take():
        id_bits = bits.take(4) + bits.take(3) + 3
    bits.take(3)  # tools
    if not reduced:
        bits.take(4)  # tools
        has_order_hint = bits.take()
        bits.take_if(has_order_hint, 2)  # tools
        force_screen_content_tools = SELECT if bits.take() else bits.take()
        force_integer_mv = SELECT if not force_screen_content_tools or bits.take() else bits.take()
        order_hint_bits = bits.take(3) + 1 if has_order_hint else 0
    return _Sequence(
        width=width,
        height=height,
        sides_bits=sides_bits,
        reduced_still_picture_header=bool(reduced),
        time_bits=time_bits,
        has_decoder_model=has_decoder_model,
        id_bits=id_bits,
        order_hint_bits=order_hint_bits,
        force_screen_content_tools=force_screen_content_tools,
        force_integer_mv=force_integer_mv,
    )


def _operating_points(bits: _Bits) -> tuple[int, bool]:
    """Pass over times and operating points; return the bits of a frame's time, and whether there is a decoder model."""
    delay_bits = time_bits = equal = 0
    if bits.take():
        bits.take(64)  # units of time
        equal = bits.take()
        if equal:
            _pass_ticks(bits)
        if bits.take():
            delay_bits = bits.take(5) + 1
            bits.take(37)
            time_bits = bits.take(5) + 1
    displayed_later = bits.take()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        bits.take_if(bits.take(5) > 7)
        if delay_bits and bits.take():
            bits.take(2 * delay_bits + 1)
        if displayed_later:
            bits.take_if(bits.take(), 4)
    return 0 if equal else time_bits, bool(delay_bits)


def _pass_ticks(bits: _Bits) -> None:
    """Pass over a number as long as its leading zeros."""
    zeros = 0
    while not bits.take():
        if (zeros := zeros + 1) == 32:  # where decoders differ
            raise Damaged("the AVIF file is corrupt: its pixels have a time without end")
    bits.take(zeros)


def _frame(bits: _Bits, sequence: _Sequence) -> tuple[bool, int]:
    """Return whether a frame is a shown key frame, and its pixels (an upper bound if another has its own size)."""
    if sequence.reduced_still_picture_header:
        return True, sequence.px
    if bits.take():
        return False, sequence.px  # an earlier frame, shown again
    kind, shown = bits.take(2), bits.take()
    bits.take_if(shown, sequence.time_bits)
    bits.take_if(not shown)
    is_key = kind == KEY_FRAME and bool(shown)
    bits.take_if(not (is_key or kind == SWITCH_FRAME))
    bits.take()
    tools = sequence.force_screen_content_tools
    has_tools = bits.take() if tools == SELECT else tools
    bits.take_if(has_tools and sequence.force_integer_mv == SELECT)
    bits.take(sequence.id_bits)
    frame_size_override = kind == SWITCH_FRAME or bits.take()
    if not frame_size_override:
        return is_key, sequence.px
    return is_key, _key_frame_px(bits, sequence) if is_key else sequence.most_px


def _key_frame_px(bits: _Bits, sequence: _Sequence) -> int:
    """Return the pixels of a shown key frame with its own size; at most, if it has times for the decoder model."""
    bits.take(sequence.order_hint_bits)
    if bits.take_if(sequence.has_decoder_model):
        return sequence.most_px
    width, height = (bits.take(count) + 1 for count in sequence.sides_bits)
    return width * height
