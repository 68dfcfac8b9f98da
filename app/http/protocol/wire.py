"""The transport of a connection: counts bytes sent and acknowledged, and chooses how the connection ends."""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

LINGER_S = 30.0
"""Maximum time to read the rest of a request after its answer."""

LINGER_IDLE_S = 5.0
"""Maximum time without a byte from the caller while the rest is read."""

LINGER_BYTES = 2**30
"""Maximum bytes that are read and dropped after an answer."""

TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
"""TCP states of a connection that the other side has closed, on Linux."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CLOSE_IN_ORDER = struct.pack("ii", 0, 0)


class Linger:
    """Limits of reading on after an answer, in time and bytes.

    Without reading on, a caller that is still sending gets a reset, and loses the answer.
    """

    def __init__(self) -> None:
        self._began_s = self._heard_s = time.monotonic()
        self._dropped_bytes = 0

    def drop(self, size_bytes: int) -> None:
        """Count bytes that arrived and are dropped."""
        self._heard_s = time.monotonic()
        self._dropped_bytes += size_bytes

    @property
    def is_over(self) -> bool:
        """True once the time or the bytes are used up."""
        now_s = time.monotonic()
        return (
            now_s - self._began_s > LINGER_S
            or now_s - self._heard_s > LINGER_IDLE_S
            or self._dropped_bytes > LINGER_BYTES
        )


class Wire(asyncio.Transport):
    """The transport of a connection: counts bytes, closes without losing the answer, and resets on failure.

    Args:
        is_request_incomplete: returns True while the caller has not sent all of its request.
    """

    def __init__(self, transport: asyncio.Transport, is_request_incomplete: Callable[[], bool]) -> None:
        super().__init__()
        self._transport = transport
        self._is_request_incomplete = is_request_incomplete
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self.linger: Linger | None = None
        """Set when this side is closed while the caller may still send."""
        self.written_bytes = 0
        self._resets = False
        self._is_ended = False

    @property
    def unsent_bytes(self) -> int:
        """Bytes not acknowledged by the caller's system: in this process, in the kernel, or in transit."""
        return self._transport.get_write_buffer_size() + _unacknowledged_bytes(self._socket)

    @property
    def taken_bytes(self) -> int:
        """Bytes acknowledged by the caller's system."""
        return self.written_bytes - self.unsent_bytes

    @property
    def caller_has_left(self) -> bool:
        """True if the caller has closed its side; asyncio notices that only after reading all earlier bytes.

        Always False on other systems than Linux.
        """
        if self._socket is None or self._socket.fileno() < 0 or sys.platform != "linux":
            return False
        (state,) = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state in (TCP_CLOSE, TCP_CLOSE_WAIT)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        self.written_bytes += len(data)
        self._transport.write(data)

    def reset_until_closed(self) -> None:
        """Reset the connection unless `close` ends it, even if this process is killed.

        In HTTP/1.0 an answer without a length ends when the connection is closed, and the system closes the sockets of
        a killed process.
        """
        self._set_linger(RESET_ON_CLOSE)
        self._resets = True

    def close(self) -> None:
        """Send all written bytes, then close; keep reading meanwhile if the caller is still sending."""
        if self.is_closing():
            return
        self._is_ended = True
        if not self._transport.get_write_buffer_size():
            self.drained()
        if self._is_request_incomplete():
            self.close_our_side()
        else:
            self._transport.close()

    def drained(self) -> None:
        """Note that the kernel has all written bytes: it delivers them even if this process ends."""
        if self._resets and self._is_ended:
            self._set_linger(CLOSE_IN_ORDER)
            self._resets = False

    def close_our_side(self) -> None:
        """Send all written bytes and the end of the stream; further input is dropped until the linger is over."""
        self._transport.write_eof()
        self._transport.resume_reading()
        self.linger = Linger()

    def finish(self) -> None:
        """Send all written bytes, then close both sides."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once, and drop unsent bytes."""
        self._transport.abort()

    def reset(self) -> None:
        """Reset the connection at once, so that a caller cannot mistake a partial answer for a complete one.

        In HTTP/1.0 an orderly close ends an answer without a length, so a failure needs a reset.
        """
        self._set_linger(RESET_ON_CLOSE)
        self._resets = False
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return True once no further answer can be sent."""
        return self.linger is not None or self._transport.is_closing()

    @property
    def is_gone(self) -> bool:
        """True once both sides are closed, though the socket may still be open for a moment."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Leave further input in the kernel."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the kernel has not accepted yet."""
        return self._transport.get_write_buffer_size()

    def _set_linger(self, option: bytes) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._transport.get_extra_info(name, default)


def _unacknowledged_bytes(sock: socket.socket | None) -> int:
    """Return the number of bytes in the kernel's send queue; 0 if the system does not report it."""
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
