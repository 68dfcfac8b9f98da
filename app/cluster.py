"""python -m app cluster: the service on Ray, on one machine or many, a replica for each GPU.

Needs the extra `cluster`, and the variables of docker/cluster.env on every node. A replica is the application as it is,
in an actor of Ray Serve behind the HAProxy that Ray runs.
"""

import asyncio
import logging.config
import math
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import ray
import uvicorn
from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from app.build import build_service
from app.environment import check_keys, read_settings
from app.http.application import create_app
from app.lifecycle import REFUSALS, Lifecycle, Phase
from app.server import listen
from app.settings import PREFIX, Settings, SettingsError
from app.telemetry.logs import log_config

NAME = "esrgan"
"""Name of the application in Ray."""

REQUIRED_VARIABLES: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
}
"""Variables without which Ray keeps whole answers in memory for slow readers."""

BACKLOG_S = 5.0
"""Target backlog per replica, in predicted seconds of work."""

OWN_PORT = 9200
"""Own port of the replica of rank 0, for metrics and administration; rank 1 has the next one, and so on."""

OWN_PORT_RETRY_S = 2.0

MAX_REQUESTS = 1000
"""Requests that Ray gives a replica at a time: far more than it accepts, so that the replica refuses, not Ray."""

GRACE_S = 15
"""Seconds that Ray gives a replica to end, beyond ESRGAN_DRAIN_S."""

PASSED_ON = re.compile(
    rf"{PREFIX}\w+|LD_PRELOAD|MALLOC_CONF|OMP_WAIT_POLICY|TRITON_CACHE_DIR|CUDA_CACHE_PATH|PYTHONPATH|OTEL_\w+"
)
"""Variables that replicas on other nodes inherit from this process."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Bounds of the number of replicas."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `N` or `MIN-MAX`.

        Raises:
            SettingsError: it is neither.
        """
        match = re.fullmatch(r"([1-9]\d{0,3})(?:-([1-9]\d{0,3}))?", text)
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if least > most:
            raise SettingsError(f"{text!r} is not a number of replicas; write N, or MIN-MAX to let the backlog decide")
        return cls(least=least, most=most)


@serve.deployment
@serve.ingress()
class Replica:
    """A replica: the whole application, loaded and tested before Ray sends it a request."""

    def __init__(self, settings: Settings) -> None:
        check_variables(os.environ)
        logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
        self._life = Lifecycle.of(build_service(settings))
        self._own: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:  # Ray looks for it
        """Return the application; Ray runs its lifespan."""
        app = create_app(self._life)
        rank = serve.get_replica_context().rank.rank
        settings = self._life.settings.model_copy(update={"port": OWN_PORT + rank})
        self._own = asyncio.get_running_loop().create_task(serve_own_port(app, settings))
        return app

    def check_health(self) -> None:
        """Fail once the device is lost: Ray then replaces the replica."""
        if self._life.phase is Phase.BROKEN:
            raise RuntimeError(REFUSALS[Phase.BROKEN])

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Report the predicted seconds until everything that waits or runs is done."""
        return {"backlog_s": self._life.service.scheduler.backlog_s or 0.0}


async def serve_own_port(app: FastAPI, settings: Settings) -> None:
    """Serve the application on a replica's own port as well, once the replica that had the port before has ended."""
    listener = None
    while listener is None:
        try:
            listener = listen(settings)
        except SettingsError:
            await asyncio.sleep(OWN_PORT_RETRY_S)
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False, proxy_headers=False)
    await OwnServer(config).serve([listener])


class OwnServer(uvicorn.Server):
    """The server of a replica's own port, without signal handlers: those are Ray's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals as they are."""
        yield


def by_backlog(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Return how many replicas the work that waits needs, for Ray's autoscaler, and its unused state."""
    backlogs = (context.aggregated_metrics or {}).get("backlog_s", {})
    wanted = math.ceil(sum(backlogs.values()) / BACKLOG_S)
    least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return max(least, min(most, wanted)), {}


def check_variables(environment: Mapping[str, str]) -> None:
    """Check the environment of Ray's processes on this node.

    Raises:
        SettingsError: a variable is missing.
    """
    for name, value in REQUIRED_VARIABLES.items():
        if environment.get(name) != value:
            raise SettingsError(
                f"{name}={value} must be set on every node before Ray starts, or Ray keeps whole answers in memory for "
                "slow readers; docker/cluster.env has all variables"
            )


def application(settings: Settings, size: Size, *, gpus: float) -> serve.Application:
    """Return the application for Ray Serve.

    Args:
        gpus: of each replica.

    Raises:
        SettingsError: there are no keys, or jobs cannot be shared.
    """
    if settings.keys is None and not settings.allow_anonymous:
        raise SettingsError(
            "Ray lets other machines reach the ports of its replicas, and there are no keys; set ESRGAN_KEYS to a key "
            "file on every node, or set ESRGAN_ALLOW_ANONYMOUS=true"
        )
    if settings.jobs and not settings.jobs_database and len(ray.nodes()) > 1:
        raise SettingsError(
            "jobs of several machines need ESRGAN_JOBS_DATABASE and ESRGAN_JOBS_STORE; or set ESRGAN_JOBS=false"
        )
    settings = settings.model_copy(update={"host": "0.0.0.0"})  # so that no caller counts as local
    cpus = 1 if gpus else settings.threads or max(1, int(ray.cluster_resources().get("CPU", 1)) // size.most)
    if not gpus:
        settings = settings.model_copy(update={"threads": cpus})
    variables = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    scaling = AutoscalingConfig(
        min_replicas=size.least,
        max_replicas=size.most,
        upscale_delay_s=10,
        downscale_delay_s=300,
        policy=AutoscalingPolicy(policy_function=by_backlog),
    )
    many: dict[str, Any] = {"num_replicas": size.least}
    if size.most > size.least:
        many = {"autoscaling_config": scaling}
    deployment: Any = Replica
    return deployment.options(
        max_ongoing_requests=MAX_REQUESTS,
        health_check_period_s=2,
        graceful_shutdown_timeout_s=settings.drain_s + GRACE_S,
        ray_actor_options={"num_gpus": gpus, "num_cpus": cpus, "runtime_env": {"env_vars": variables}},
        **many,
    ).bind(settings)


def build(arguments: Mapping[str, Any]) -> serve.Application:
    """Return the application for a Serve config file, as in deploy/kuberay; settings come from the environment.

    Args:
        arguments: `replicas`, N or MIN-MAX, and `gpus` of each replica.

    Raises:
        SettingsError: settings are wrong, or a variable of docker/cluster.env is missing.
    """
    check_variables(os.environ)
    settings = read_settings()
    check_keys(settings)
    return application(settings, Size.parse(str(arguments.get("replicas", 1))), gpus=float(arguments.get("gpus", 0)))


def serve_cluster(settings: Settings, replicas: str | None) -> None:
    """Deploy the service on the Ray of RAY_ADDRESS, or on one of this machine until a signal stops it.

    Args:
        replicas: N or MIN-MAX; by default one for each GPU, or one.

    Raises:
        SettingsError: a variable of docker/cluster.env is missing, or settings do not suit several machines.
    """
    check_keys(settings)
    check_variables(os.environ)
    joined = bool(os.environ.get("RAY_ADDRESS"))
    size = Size.parse(replicas) if replicas else None
    ray.init(include_dashboard=None if joined else False, log_to_driver=not joined)
    count = int(ray.cluster_resources().get("GPU", 0)) if settings.device != "cpu" else 0
    serve.start(proxy_location="EveryNode", http_options={"host": settings.host, "port": settings.port})
    made = application(settings, size or Size(least=count or 1, most=count or 1), gpus=min(1, count))
    serve.run(made, name=NAME, route_prefix=settings.root_path or "/")
    if joined:
        return
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
