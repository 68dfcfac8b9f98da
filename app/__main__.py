"""python -m app: read the settings, load the networks, serve. `python -m app health` asks a running one."""

import contextlib
import logging.config
import socket
import sys
import urllib.request
import warnings

import uvicorn

from app.settings import Settings, SettingsError, read_settings
from app.telemetry import log_config


def main(arguments: list[str]) -> int:
    """Run a command; returns the exit status: 2 for what the operator can put right."""
    if arguments not in ([], ["health"]):
        print("usage: python -m app [health]; settings come from the environment as ESRGAN_*", file=sys.stderr)
        return 2
    try:
        settings = read_settings()
        return _health(settings) if arguments else _serve(settings)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(settings: Settings) -> int:
    logging.config.dictConfig(log_config())
    # Of odd uploads. Here and not around each decoding, since filters belong to the process and decoders to threads.
    warnings.filterwarnings("ignore", module="PIL")
    listener = _bind(settings)  # before the slow part: a busy port is told at once
    from app.main import build_service
    from app.server import create_app
    from model.checkpoint import WeightsError
    from model.reliable import SelfTestError

    try:
        service = build_service(settings)
    except (WeightsError, SelfTestError) as error:
        raise SettingsError(str(error)) from error
    config = uvicorn.Config(
        create_app(service), log_config=None, server_header=False, timeout_graceful_shutdown=settings.drain_s
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has drained by then and raises the signal once more
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _bind(settings: Settings) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))  # callers are let in when uvicorn listens, once all is ready
        return listener
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(f"cannot listen on {where} ({error.strerror}); choose another, e.g. PORT=9000") from error


def _health(settings: Settings) -> int:
    """Exit status 0 when the service on this machine is ready: the container's health check."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # compares, does not bind
    host = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{host}:{settings.port}/readyz", timeout=5):
            return 0
    except OSError as error:  # of which urllib's errors are kinds
        print(f"not ready: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
