"""python -m app: read the settings, open the port, load the networks, serve.

`python -m app check` validates settings and weights and ends; `python -m app health` asks a running service;
`python -m app key NAME` makes an API key; `python -m app openapi` prints the description of the API.
"""

import json
import logging.config
import os
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable

from app.access.keyring import Keyring
from app.access.keys import KeysError, new_key
from app.library.entry import State
from app.service import UpscaleService
from app.settings import Settings, SettingsError, read_settings
from app.telemetry.collector import open_traces
from app.telemetry.log_queue import BackgroundLog
from app.telemetry.logs import log_config

LAST_LINES_S = 2.0
"""For the last lines of the log to be written."""

USAGE = "usage: python -m app [check | health | openapi | key NAME [OPTION=VALUE …]]; settings come from ESRGAN_*"


def main(arguments: list[str]) -> int:
    """Run a command; returns the exit status: 2 for what the operator can put right."""
    if arguments[:1] == ["key"] and len(arguments) > 1:
        return _key(arguments[1], arguments[2:])
    commands: dict[tuple[str, ...], Callable[[Settings], int]] = {
        (): _serve,
        ("check",): _check,
        ("health",): _health,
        ("openapi",): _openapi,
    }
    command = commands.get(tuple(arguments))
    if command is None:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return command(read_settings())
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if command is _check else 2


def _serve(settings: Settings) -> int:
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    # Of odd uploads. Here and not around each decoding, since filters belong to the process and decoders to threads.
    warnings.filterwarnings("ignore", module="PIL")
    lines = BackgroundLog()
    try:
        return _serve_until_stopped(settings)
    finally:
        lines.flush(LAST_LINES_S)


def _serve_until_stopped(settings: Settings) -> int:
    from app.http.application import create_app
    from app.lifecycle import Lifecycle
    from app.server import Server, allow_files, listen

    listener = listen(settings)  # a busy port is told at once
    settings = settings.model_copy(update={"max_connections": allow_files(settings.max_connections)})
    life = Lifecycle(settings, lambda: _build(settings), failed=lambda: server.end())
    server = Server(create_app(life, open_traces()), life)
    server.run(sockets=[listener])
    log = logging.getLogger(__name__)
    if isinstance(life.failure, SettingsError):
        raise life.failure
    if life.failure is not None:
        log.critical("the networks could not be loaded", exc_info=life.failure)
        return 1
    log.info("stopped")
    return 0


def _check(settings: Settings) -> int:
    """Exit status 0 when the settings are valid and every network works on this device."""
    if settings.keys is not None:
        Keyring(settings.keys)
    logging.disable()  # the one line that it prints says all
    service = _build(settings.model_copy(update={"load": "start", "max_model_bytes": sys.maxsize}))
    entries = list(service.library.entries())
    service.close()
    if bad := [f"{entry.name}: {entry.reason}" for entry in entries if entry.state is State.FAILED]:
        raise SettingsError("; ".join(bad))
    models = ", ".join(f"{entry.info.version} on {entry.info.device}" for entry in entries if entry.info)
    print(f"ok: the settings are valid and every network has passed its self-test: {models}")
    return 0


def _key(name: str, options: list[str]) -> int:
    """Print a new key: its line for the file on the standard output, its token, the only time, on the other."""
    try:
        token, line = new_key(name, options)
    except KeysError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"token of {name}, shown this once; its line for the file of ESRGAN_KEYS follows:\n{token}", file=sys.stderr)
    print(line)
    return 0


def _openapi(settings: Settings) -> int:
    from app.http.application import create_app
    from app.lifecycle import Lifecycle

    app = create_app(Lifecycle(settings, lambda: _build(settings)))
    print(json.dumps(app.openapi(), indent=2))
    return 0


def _build(settings: Settings) -> UpscaleService:
    from app.build import build_service  # takes seconds: torch

    return build_service(settings)


def _health(settings: Settings) -> int:
    """Exit status 0 when the service on this machine is ready: the container's health check."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # compares, does not bind
    host = f"[{host}]" if ":" in host else host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
    try:
        with opener.open(f"http://{host}:{settings.port}/readyz", timeout=5):
            return 0
    except urllib.error.HTTPError as error:
        print(f"not ready: {error.read(1000).decode(errors='replace')}", file=sys.stderr)
    except OSError as error:
        print(f"not ready: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # not held up by a thread that still loads, decodes or is stuck in a driver
