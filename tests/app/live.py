"""The service on a real port, in the event loop of the test, and raw connections to it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from fastapi import FastAPI

from app.http.application import create_app
from app.lifecycle import Lifecycle
from app.record import Observer
from app.server import Server, listen
from app.telemetry.observers import Telemetry

HANGS_S = 60.0
"""Time after which a test fails that waits for an event: on a busy machine, any of them may take many seconds."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """A listening service."""

    port: int
    life: Lifecycle
    server: Server
    running: asyncio.Task[None]
    callers: "list[Caller]" = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def signal(self) -> None:
        """Handle a SIGTERM as the process does."""
        self.server.handle_exit(signal.SIGTERM, None)

    async def connect(self) -> "Caller":
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.callers.append(caller)
        return caller


@dataclass(frozen=True)
class Caller:
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, text: str, body: bytes = b"") -> None:
        """Send the lines of a head as one string, each ended by a newline, and bytes after it."""
        self.writer.write(text.replace("\n", "\r\n").encode() + body)
        await self.writer.drain()

    async def status(self, *, within_s: float = HANGS_S) -> int:
        """Read one answer to its end; returns its status, or 0 if the connection was closed without one."""
        async with asyncio.timeout(within_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0
            lines = head.decode().lower().split("\r\n")
            lengths = [int(line.split(":")[1]) for line in lines if line.startswith("content-length:")]
            if lengths:
                await self.reader.readexactly(lengths[0])
            return int(lines[0].split()[1])

    async def rest(self, *, within_s: float = HANGS_S) -> tuple[bytes, bool]:
        """Read until the end; returns the bytes, and True if the connection was reset instead of closed."""
        came = bytearray()
        async with asyncio.timeout(within_s):
            try:
                while piece := await self.reader.read(65536):
                    came += piece
            except ConnectionResetError:
                return bytes(came), True
        return bytes(came), False

    async def closed(self, *, within_s: float = HANGS_S) -> bool:
        """Wait until the other side has closed the connection."""
        async with asyncio.timeout(within_s):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
            return True

    def hang_up(self) -> None:
        self.writer.close()


async def until(
    holds: Callable[[], bool | Awaitable[bool]], *, within_s: float = HANGS_S, pause_s: float = 0.005
) -> None:
    """Poll until a condition, which may have to be awaited, holds in the service."""
    async with asyncio.timeout(within_s):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(pause_s)


@asynccontextmanager
async def serving(
    life: Lifecycle, app: FastAPI | None = None, observers: Sequence[Observer] = ()
) -> AsyncIterator[Live]:
    """Serve until the end of the block; the service may still be loading.

    Args:
        app: an application other than the service's.
        observers: of requests refused before the application; by default the service's.
    """
    listener = listen(life.settings.model_copy(update={"port": 0}))
    telemetry = Telemetry(life)
    server = Server(app or create_app(life, telemetry), life, observers or telemetry.observers)
    server.config.load()
    running = asyncio.create_task(server._serve([listener]))  # without its signal handlers
    live = Live(port=listener.getsockname()[1], life=life, server=server, running=running)
    try:
        await until(lambda: server.started)
        yield live
    finally:
        for caller in live.callers:
            caller.hang_up()
        server.end()
        await running


@asynccontextmanager
async def calling(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    """Make a client without connection limits."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=live.address, timeout=60, limits=limits) as client:
        yield client
