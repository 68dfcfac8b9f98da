"""The server process: port, signals and shutdown."""

import asyncio
import errno
import logging
import os
import resource
import socket
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from app.http.protocol.connection import Connection, ConnectionLimits, limited
from app.lifecycle import Lifecycle
from app.record import Observer
from app.settings import Settings, SettingsError

FLUSH_S = 2
"""Seconds for connections to close after the last answer has been sent."""

BROKEN_GRACE_S = 5.0
"""Seconds for accepted requests to get their error, and for probes to see it, once the service is broken."""

DELIVERY_POLL_S = 0.05
"""Interval at which, at the end, the server checks that callers have received their answers."""

SPARE_FILES = 128
"""Open files for everything other than connections: weights, libraries, the log."""

ACCEPTS_PER_TURN = 4
"""Connections accepted per turn of the event loop, so that closing excess ones keeps up."""

LISTEN_BACKLOG = 1024
"""Connections that the kernel queues until they are accepted; the system's own limit may be lower."""

LOG_INTERVAL_S = 60.0
"""Minimum time between two log lines about connections that cannot be accepted."""

OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger(__name__)


class UnawaitedThreads(ThreadPoolExecutor):
    """asyncio's threads for calls that block; the end of the server does not wait for one that hangs."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the threads after their current calls."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)


class Server(uvicorn.Server):
    """uvicorn's server, except that the port stays open while it drains, so that new requests get a 503.

    The first signal makes the service leave and drain; the second ends the process at once.

    Args:
        observers: receive a record of every request that is refused before it reaches the application.
    """

    def __init__(self, app: FastAPI, life: Lifecycle, observers: Sequence[Observer] = ()) -> None:
        settings = life.settings
        limits = ConnectionLimits(
            max_open=settings.max_connections, head_s=settings.head_s, send_idle_s=settings.send_idle_s
        )
        super().__init__(
            uvicorn.Config(
                app,
                http=limited(limits, observers),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=ACCEPTS_PER_TURN,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=FLUSH_S,
            )
        )
        self._life = life
        self._signalled = False
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logged_s = -LOG_INTERVAL_S

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port; the networks are loaded in the meantime."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(UnawaitedThreads(thread_name_prefix="asyncio"))
        self._loop.set_exception_handler(self._handle_loop_error)
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(LISTEN_BACKLOG)  # asyncio has set it to what it accepts per turn
            log.info("listening on %s port %d", *listener.getsockname()[:2])

    def end(self) -> None:
        """Stop the server; call it on the server's event loop."""
        self.should_exit = True

    def fail(self) -> None:
        """Stop the server after accepted requests have received their errors; call it on its event loop."""
        if self._drain is None:
            self._end_after(self._answer_and_deliver())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal: leave and drain at the first one, end the process at the second."""
        if self._signalled or self._loop is None:
            os._exit(128 + sig)  # threads may still be running, and there is nothing left to save
        self._signalled = True
        self._loop.call_soon_threadsafe(self._start_leaving)

    def _start_leaving(self) -> None:
        if self._drain is None:
            self._end_after(self._leave_and_drain())
        else:  # broken: the end is near
            self._life.drain()

    def _end_after(self, work: Coroutine[Any, Any, None]) -> None:
        self._drain = asyncio.get_running_loop().create_task(work, name="drain")
        self._drain.add_done_callback(lambda _: self.end())

    async def _leave_and_drain(self) -> None:
        """Leave, then refuse new requests and wait for all answers and their delivery."""
        await self._life.leave()
        self._life.drain()
        until_s = time.monotonic() + self._life.settings.drain_s
        await self._life.drained()
        await self._deliver(until_s)

    async def _answer_and_deliver(self) -> None:
        """Wait for the errors of all accepted requests and their delivery; nothing is computed any more."""
        until_s = time.monotonic() + BROKEN_GRACE_S
        await self._life.answered(within_s=BROKEN_GRACE_S)
        await self._deliver(until_s)

    async def _deliver(self, until_s: float) -> None:
        """Wait for the delivery of all answers; bytes that only the kernel has are lost with a container."""
        while self._is_delivering() and time.monotonic() < until_s:  # noqa: ASYNC110  # the kernel does not signal it
            await asyncio.sleep(DELIVERY_POLL_S)

    def _is_delivering(self) -> bool:
        return any(it.transport.unsent_bytes for it in cast("set[Connection]", self.server_state.connections))

    def _handle_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log errors that no task handles; failures to accept, which asyncio retries, only once in a while."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in OUT_OF_FILES and "socket" in context):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = time.monotonic()
            log.error(
                "cannot accept connections (%s); retrying every second; lower ESRGAN_MAX_CONNECTIONS or raise the "
                "limit of open files (ulimit -n)",
                error.strerror,
            )


def listen(settings: Settings) -> socket.socket:
    """Bind the port, before anything that takes time.

    Raises:
        SettingsError: the port or the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name the protocol; without it, kept-alive answers take 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        return listener
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        hint = "choose another port: ESRGAN_PORT=9000, or with make PORT=9000"
        raise SettingsError(f"cannot listen on {where} ({error.strerror}); {hint}") from error


def allow_files(connections: int) -> int:
    """Raise the limit of open files as far as the connections need and the system allows.

    Returns:
        The number of connections that fit, at most the number requested.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    room = soft - min(SPARE_FILES, soft // 2)
    log.warning(
        "ESRGAN_MAX_CONNECTIONS=%d needs %d open files, but the limit is %d (ulimit -n): accepting at most %d",
        connections,
        needed,
        soft,
        room,
    )
    return room
