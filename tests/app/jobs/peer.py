"""Another server on this machine, with answers chosen by the test."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast


@dataclass(frozen=True, kw_only=True)
class Received:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer; `hold` delays it until the connection ends."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hold: bool = False


@dataclass(kw_only=True)
class Peer:
    """A server that sends the replies of a list in order, then always the last one."""

    port: int = 0
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    received: list[Received] = field(default_factory=list)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split()
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(Received(method=method, path=path, headers=headers, body=body))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if reply.hold:
                await reader.read()
                return
            sent = {"Content-Length": str(len(reply.body)), "Connection": "close"} | dict(reply.headers)
            lines = [f"HTTP/1.1 {reply.status} -", *(f"{name}: {value}" for name, value in sent.items() if value)]
            writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[Peer]:
    """Serve until the end of the block, on a free port unless the peer has one."""
    server = await asyncio.start_server(peer.serve, "127.0.0.1", peer.port)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in peer.serving:  # a connection that is left open fails a later test
            task.cancel()
        await asyncio.gather(*peer.serving, return_exceptions=True)
