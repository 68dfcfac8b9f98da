"""The process around the application: its port, its signals, its end."""

import asyncio
import logging
import os
import resource
import socket
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.http.connection import ConnectionLimits, limited
from app.lifecycle import Lifecycle
from app.settings import Settings, SettingsError

LAST_BYTES_S = 2
"""For the last answers to leave, after all work has been done."""

SPARE_FILES = 128
"""Files beside the connections: weights, libraries, the log."""

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
                backlog=settings.max_connections,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=LAST_BYTES_S,
            )
        )
        self._life = life
        self._signalled = False
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port; the networks are loaded meanwhile."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for listener in sockets or []:
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
        self._drain = asyncio.get_running_loop().create_task(self._life.drained(), name="drain")
        self._drain.add_done_callback(lambda _: self.end())


def listen(settings: Settings) -> socket.socket:
    """Take the port, before anything that takes time.

    Raises:
        SettingsError: the port or the address is not to be had.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        return listener
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(f"cannot listen on {where} ({error.strerror}); choose another, e.g. PORT=9000") from error


def allow_files(connections: int) -> None:
    """Raise the limit of open files as far as the connections need and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
