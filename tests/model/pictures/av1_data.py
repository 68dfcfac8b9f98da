"""AV1 data with headers alone, written by hand: no encoder makes pictures of a size other than their own."""

SEQUENCE, FRAME = 1, 6
"""Types of OBUs."""

ONE_POINT = f"0 0 00000 {0:012b} 00000"
"""No times and one operating point."""
CHOSEN_TOOLS = "0 000 0000 0 1 1"
"""No number of frames; each chooses its tools for screens."""


def packed(bits: str) -> bytes:
    """Convert written-out bits to bytes, padded with zeros."""
    said = bits.replace(" ", "")
    return int(said.ljust(-(-len(said) // 8) * 8, "0"), 2).to_bytes(-(-len(said) // 8))


def obu(kind: int, content: bytes) -> bytes:
    """Make an OBU of up to 127 bytes."""
    return bytes((kind << 3 | 2, len(content))) + content


def sequence(
    width: int, height: int, *, side_bits: int = 16, points: str = ONE_POINT, tools: str = CHOSEN_TOOLS
) -> bytes:
    """Make the header of a sequence of frames."""
    sizes = f"{side_bits - 1:04b} {side_bits - 1:04b} {width - 1:0{side_bits}b} {height - 1:0{side_bits}b}"
    return obu(SEQUENCE, packed(f"000 0 0 {points} {sizes} {tools}"))


def frame(
    *, kind: int = 0, shown: bool = True, size: tuple[int, int] | None = None, side_bits: int = 16, order: str = ""
) -> bytes:
    """Make the header of a frame of `CHOSEN_TOOLS`, by default a key frame.

    Args:
        size: its own, as a key frame stores it.
        order: bits between the flag of a size of its own and this size.
    """
    hidden = "" if shown else "0"
    errors = "" if shown and kind == 0 else "0"
    sides = "".join(f"{side - 1:0{side_bits}b}" for side in size or ())
    return obu(FRAME, packed(f"0 {kind:02b} {shown:b} {hidden} {errors} 0 0 {bool(size):b} {order} {sides}"))
