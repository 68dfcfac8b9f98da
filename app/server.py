"""The process around the application: its port, its signals, its end."""

import asyncio
import errno
import logging
import os
import resource
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from app.http.protocol.connection import Connection, ConnectionLimits, limited
from app.lifecycle import Lifecycle
from app.settings import Settings, SettingsError

LAST_BYTES_S = 2
"""Time for connections to close, after all answers have been sent."""

DELIVERY_LOOK_S = 0.05
"""Time between two looks, at the end, whether callers have all of their answers."""

SPARE_FILES = 128
"""Files for all that is not a connection: weights, libraries, the log."""

ACCEPTS_A_TURN = 4
"""Connections that the event loop takes before it looks at anything else, such as closing those that are too many."""

WAITING_CONNECTIONS = 1024
"""Connections that the system keeps until they are taken; it may have a lower limit of its own."""

COMPLAINT_S = 60.0
"""Least time between two log lines that say that no connection can be taken."""

OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn, whose port stays open while it drains, so that newcomers hear why they are not welcome.

    The first signal drains; the second ends the process at once.
    """

    def __init__(self, app: FastAPI, life: Lifecycle) -> None:
        settings = life.settings
        limits = ConnectionLimits(
            most=settings.max_connections, head_s=settings.head_s, send_idle_s=settings.send_idle_s
        )
        super().__init__(
            uvicorn.Config(
                app,
                http=limited(limits, app.state.observers),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=ACCEPTS_A_TURN,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=LAST_BYTES_S,
            )
        )
        self._life = life
        self._signalled = False
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._complained_s = -COMPLAINT_S

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port; the networks are loaded meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._complain)
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(WAITING_CONNECTIONS)  # asyncio has set it to what it takes in a turn
            log.info("listening on %s port %d", *listener.getsockname()[:2])

    def end(self) -> None:
        """End the server; called on its loop."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come: drain, and at the second one end now."""
        if self._signalled or self._loop is None:
            os._exit(128 + sig)  # threads may be at work, and nothing is left to be saved
        self._signalled = True
        self._loop.call_soon_threadsafe(self._begin_to_drain)

    def _begin_to_drain(self) -> None:
        self._life.drain()
        self._drain = asyncio.get_running_loop().create_task(self._drain_and_deliver(), name="drain")
        self._drain.add_done_callback(lambda _: self.end())

    async def _drain_and_deliver(self) -> None:
        """Wait for all answers and their delivery: what the kernel still holds may end with a container."""
        until_s = time.monotonic() + self._life.settings.drain_s
        await self._life.drained()
        while self._delivers() and time.monotonic() < until_s:  # noqa: ASYNC110  # the kernel does not signal it
            await asyncio.sleep(DELIVERY_LOOK_S)

    def _delivers(self) -> bool:
        return any(it.transport.unsent_bytes for it in cast("set[Connection]", self.server_state.connections))

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what no task handles; that no connection can be taken only once in a while, since it is tried again."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in OUT_OF_FILES and "socket" in context):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._complained_s >= COMPLAINT_S:
            self._complained_s = time.monotonic()
            log.error(
                "no connection can be taken (%s); it is tried again every second; lower ESRGAN_MAX_CONNECTIONS or "
                "raise the limit of open files (ulimit -n)",
                error.strerror,
            )


def listen(settings: Settings) -> socket.socket:
    """Take the port, before anything that takes time.

    Raises:
        SettingsError: the port or the address is not to be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it, a kept-alive answer takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        return listener
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(f"cannot listen on {where} ({error.strerror}); choose another, e.g. PORT=9000") from error


def allow_files(connections: int) -> int:
    """Raise the limit of open files as far as the connections need and the system allows.

    Returns:
        How many connections there is room for, at most those that were asked for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    room = soft - min(SPARE_FILES, soft // 2)
    log.warning(
        "ESRGAN_MAX_CONNECTIONS=%d needs %d open files, and the limit is %d (ulimit -n): at most %d are taken",
        connections,
        wanted,
        soft,
        room,
    )
    return room
