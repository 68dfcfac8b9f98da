"""python -m app: read the settings, open the port, load the networks, serve.

`python -m app upscale` upscales files without a server; `python -m app check` validates settings and weights and exits;
`python -m app health` queries a running service; `python -m app key NAME` makes an API key; `python -m app
webhook-secret [NAME]` prints the secret that verifies the webhooks of that key; `python -m app openapi` prints the
OpenAPI document; `python -m app replicas N` serves with several processes behind HAProxy, `python -m app cluster` on
Ray.
"""

import argparse
import gc
import json
import logging.config
import os
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from app.access.keyring import Keyring
from app.access.keys import KeysError, new_key
from app.environment import check_keys, read_settings
from app.errors import Unavailable
from app.library.entry import ModelState
from app.service import UpscaleService
from app.settings import Settings, SettingsError
from app.telemetry.collector import open_traces
from app.telemetry.log_queue import BackgroundLog
from app.telemetry.logs import log_config

LOG_FLUSH_S = 2.0
"""Time to write the last lines of the log."""

MAX_REPLICAS = 64

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect."""

BROKEN_PIPE = 141
"""Exit status after a broken pipe, as shells expect."""


def run_quietly(arguments: list[str]) -> int:
    """Run a command; Ctrl-C and a broken pipe become exit statuses, without a traceback."""
    try:
        return main(arguments)
    except KeyboardInterrupt:  # most commands handle it once they run
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE


def main(arguments: list[str]) -> int:
    """Run a command and return its exit status: 2 for wrong usage or settings, 70 after the device was lost."""
    if os.name == "nt":
        print("error: this needs Linux; on Windows, run it in WSL 2 or in a container", file=sys.stderr)
        return 2
    if arguments[:1] == ["upscale"]:
        from app.commands import options, upscale

        wanted = options.parse_options(arguments[1:])
        return _run(lambda settings: upscale.run(wanted, settings))
    given = _parser().parse_args(arguments)
    status: int = given.run(given)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Without a command: serve. Settings come from variables ESRGAN_*, which .env.example lists.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=lambda _: _run(_serve))
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run)
        return command

    commands.add_parser("upscale", help="upscale pictures without a server")
    add("check", lambda _: _run(_check, failed=1), "check settings, keys, jobs and every network, and exit")
    add("health", lambda _: _run(_health), "ask the service on this machine whether it is ready")
    add("openapi", lambda _: _run(_openapi), "print the OpenAPI document of the service")
    key = add("key", lambda given: _key(given.name, given.options), "make an API key, and print its line for the file")
    key.add_argument("name", metavar="NAME", help="for logs and metrics")
    key.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="role=operator or concurrent=4, for example")
    secret = add(
        "webhook-secret",
        lambda given: _run(lambda settings: _webhook_secret(settings, given.name)),
        "print the secret that verifies webhooks",
    )
    secret.add_argument("name", nargs="?", default="", metavar="NAME", help="of the key; none for a service without")
    replicas = add(
        "replicas",
        lambda given: _run(lambda settings: _replicas(settings, given.number)),
        "serve with several processes behind HAProxy",
    )
    replicas.add_argument("number", metavar="NUMBER", help=f"of processes, at most {MAX_REPLICAS}")
    cluster = add(
        "cluster", lambda given: _run(lambda settings: _cluster(settings, given.replicas)), "serve on a cluster of Ray"
    )
    cluster.add_argument("replicas", nargs="?", metavar="NUMBER | MIN-MAX", help="of replicas; default: one a GPU")
    return parser


def _run(command: Callable[[Settings], int], *, failed: int = 2) -> int:
    try:
        return command(read_settings())
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return failed


def _serve(settings: Settings) -> int:
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    # Pillow warns about odd uploads. Filters are global, so setting them around each call in a thread would race.
    warnings.filterwarnings("ignore", module="PIL")
    lines = BackgroundLog()
    try:
        return _serve_until_stopped(settings)
    finally:
        lines.flush(LOG_FLUSH_S)


def _serve_until_stopped(settings: Settings) -> int:
    check_keys(settings)
    from app.http.application import create_app
    from app.lifecycle import DEVICE_LOST_STATUS, Lifecycle
    from app.server import Server, allow_files, listen
    from app.telemetry.observers import Telemetry

    listener = listen(settings)  # first of all, so that a busy port is reported at once
    settings = settings.model_copy(update={"max_connections": allow_files(settings.max_connections)})
    life = Lifecycle(settings, lambda: _build(settings))
    telemetry = Telemetry(life, open_traces())
    server = Server(create_app(life, telemetry), life, telemetry.observers)
    life.on_failure = server.fail
    server.run(sockets=[listener])
    log = logging.getLogger(__name__)
    if isinstance(life.failure, SettingsError):
        raise life.failure
    if life.failure is None:
        log.info("stopped")
    elif life.exit_status == DEVICE_LOST_STATUS:
        log.critical("stopped, since the device was lost: %s", life.failure)
    else:
        log.critical("the networks could not be loaded", exc_info=life.failure)
    return life.exit_status


def _check(settings: Settings) -> int:
    """Return 0 when the service could start: settings, keys and jobs can be used, and every network works here."""
    check_keys(settings)
    if settings.keys is not None:
        Keyring(settings.keys)
    _check_jobs(settings)
    logging.disable()  # the command prints a single line instead
    service = _build(settings.model_copy(update={"load": "start", "max_model_bytes": sys.maxsize}))
    entries = list(service.library.entries())
    service.close()
    if bad := [f"{entry.name}: {entry.reason}" for entry in entries if entry.state is ModelState.FAILED]:
        raise SettingsError("; ".join(bad))
    models = ", ".join(
        f"{info.version} on {info.device} in {info.precision}" for entry in entries if (info := entry.info)
    )
    print(f"ok: the settings are valid and every network has passed its self-test: {models}")
    return 0


def _check_jobs(settings: Settings) -> None:
    from app.jobs.opening import check_jobs, ends_start
    from app.jobs.parts import default_folder

    if not settings.jobs:
        return
    try:
        check_jobs(settings, settings.jobs_folder or default_folder())
    except (SettingsError, Unavailable) as error:
        failure = SettingsError(error.reason) if isinstance(error, Unavailable) else error
        if ends_start(settings, failure):
            raise failure from error


def _replicas(settings: Settings, number: str) -> int:
    from app.replicas import serve_replicas

    if not number.isdecimal() or not 1 <= int(number) <= MAX_REPLICAS:
        raise SettingsError(f"{number!r} is not a number of replicas from 1 to {MAX_REPLICAS}")
    check_keys(settings)
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    serve_replicas(settings, int(number))
    return 0


def _cluster(settings: Settings, replicas: str | None) -> int:
    try:
        from app.cluster import serve_cluster
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}; a cluster needs the extra `cluster`: .venv/bin/pip install 'ray[serve]>=2.60'"
        ) from error
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    serve_cluster(settings, replicas)
    return 0


def _key(name: str, options: list[str]) -> int:
    """Print a new key: the line for the key file on standard output, the token, only this once, on standard error."""
    try:
        token, line = new_key(name, options)
    except KeysError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"token of {name}, shown only this once; its line for the ESRGAN_KEYS file follows:\n{token}", file=sys.stderr
    )
    print(line)
    return 0


def _webhook_secret(settings: Settings, key_name: str) -> int:
    """Print the secrets that sign the webhooks of a key, the newest first; no name for a service without keys."""
    from app.jobs.opening import open_webhook_secrets
    from app.jobs.parts import default_folder

    secrets = list[str]()
    reason = "ESRGAN_JOBS_DATABASE is set, so ESRGAN_WEBHOOK_SECRETS must name a file"
    try:
        keys = open_webhook_secrets(settings, settings.jobs_folder or default_folder(), create=False)
        secrets.extend(keys.of_key(key_name))
    except SettingsError as error:
        reason = str(error)
    if not secrets:
        command = f"docker compose exec esrgan python -m app webhook-secret {key_name}".strip()
        raise SettingsError(f"{reason}; run this where the service has started once, in a container: {command}")
    print("\n".join(secrets))
    return 0


def _openapi(settings: Settings) -> int:
    from app.http.application import create_app
    from app.lifecycle import Lifecycle

    app = create_app(Lifecycle(settings, lambda: _build(settings)))
    print(json.dumps(app.openapi(), indent=2))
    return 0


def _build(settings: Settings) -> UpscaleService:
    from app.build import build_service  # imports torch, which takes seconds

    gc.collect()
    gc.freeze()  # full collections would stop all threads for 0.1 s to look through modules, which live for ever
    return build_service(settings)


def _health(settings: Settings) -> int:
    """Return 0 when the service on this machine is ready; used as the container's health check."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # compared, not bound
    host = f"[{host}]" if ":" in host else host
    address = f"http://{host}:{settings.port}/readyz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores a proxy set in the environment
    try:
        with opener.open(address, timeout=5):
            return 0
    except urllib.error.HTTPError as error:
        print(f"not ready: {error.read(1000).decode(errors='replace')}", file=sys.stderr)
    except OSError as error:
        reason = getattr(error, "reason", error)  # urllib wraps most errors
        print(f"not ready: {address}: {reason}; ESRGAN_HOST and ESRGAN_PORT name another one", file=sys.stderr)
    return 1


def end(status: int) -> NoReturn:
    """End the process without waiting for threads that still load, decode or hang in a driver."""
    with suppress(BrokenPipeError):  # the reader has left, as in `| head`
        sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    end(run_quietly(sys.argv[1:]))
