"""Prometheus metrics. Requests are counted as they end; the rest is read where it is kept, when somebody asks.

"Pixels" in a name are LR px, the unit of every budget.
"""

import math
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app import VERSION
from app.batching.counters import Counters
from app.errors import Unavailable
from app.library.entry import State
from app.library.library import Library
from app.lifecycle import Lifecycle, Phase
from app.record import RequestRecord
from app.service import DeviceState
from app.telemetry.job_metrics import metrics_of_jobs

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)
PIXELS = tuple(4.0**power for power in range(5, 14))
"""From 32 x 32 to 8192 x 8192."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A metric that is one number of the scheduler's."""

    name: str
    help: str
    read: Callable[[Counters], float]
    counts: bool = False
    """Whether it only grows."""

    def metric(self, counters: Counters) -> Metric:
        """Its value now."""
        family = CounterMetricFamily if self.counts else GaugeMetricFamily
        return family(self.name, self.help, value=self.read(counters))


SCHEDULER = (
    Reading(
        name="esrgan_queued_pixels",
        help="LR px that wait for the device.",
        read=lambda counters: max(0, counters.queued_px - counters.running_px),
    ),
    Reading(
        name="esrgan_in_flight_pixels",
        help="LR px of the pieces that the device has been given.",
        read=lambda counters: counters.running_px,
    ),
    Reading(
        name="esrgan_done_pixels",
        help="LR px that went through the device and were wanted.",
        read=lambda counters: counters.done_px,
        counts=True,
    ),
    Reading(
        name="esrgan_queued_works",
        help="Pictures that wait or run.",
        read=lambda counters: counters.queued,
    ),
    Reading(
        name="esrgan_backlog_seconds",
        help="Predicted seconds until all that waits or runs is done; NaN before anything was learned.",
        read=lambda counters: math.nan if counters.backlog_s is None else counters.backlog_s,
    ),
    Reading(
        name="esrgan_pieces",
        help="Batches and bands that ran.",
        read=lambda counters: counters.pieces,
        counts=True,
    ),
    Reading(
        name="esrgan_batched_works",
        help="Pictures that went through in batches.",
        read=lambda counters: counters.batched_jobs,
        counts=True,
    ),
    Reading(
        name="esrgan_padding_pixels",
        help="LR px of all batches that were padding: waste.",
        read=lambda counters: counters.padding_px,
        counts=True,
    ),
    Reading(
        name="esrgan_device_busy_seconds",
        help="Seconds that the device worked.",
        read=lambda counters: counters.device_s,
        counts=True,
    ),
    Reading(
        name="esrgan_refused_works",
        help="Pictures that were refused since the queue was full.",
        read=lambda counters: counters.refused,
        counts=True,
    ),
    Reading(
        name="esrgan_open_streams",
        help="Row streams that are open.",
        read=lambda counters: counters.open_streams,
    ),
    Reading(
        name="esrgan_open_streams_bytes",
        help="Memory on the device that the open row streams hold.",
        read=lambda counters: counters.stream_bytes,
    ),
)


class Metrics:
    """All metrics of one service.

    Args:
        life: of the service, which need not be loaded yet.
    """

    def __init__(self, life: Lifecycle) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_ServiceCollector(life))
        self._requests = Counter(
            "esrgan_requests",
            "Requests that have ended; status 499: the caller left. The outcome is `done`, `left`, `broken` or the "
            "last part of a problem type.",
            ("route", "status", "outcome", "model"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "esrgan_request_duration_seconds",
            "From the first header of a request to the last byte of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "esrgan_stage_duration_seconds",
            "What each stage took of a request: read, decode, queue, infer, encode, send.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._pixels = Histogram(
            "esrgan_picture_pixels", "LR px of the uploaded pictures.", buckets=PIXELS, registry=self.registry
        )
        self._received = Counter("esrgan_received_bytes", "Of the requests' bodies.", registry=self.registry)
        self._sent = Counter("esrgan_sent_bytes", "Of the answers' bodies.", registry=self.registry)
        self._key_requests = Counter(
            "esrgan_key_requests", "Requests of each API key.", ("key", "outcome"), registry=self.registry
        )
        self._key_pixels = Counter("esrgan_key_pixels", "LR px of each API key.", ("key",), registry=self.registry)

    def observe(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
        route, px = record.route or "other", record.width_px * record.height_px
        self._requests.labels(route, str(record.status), record.outcome, record.model).inc()
        self._seconds.labels(route).observe(record.seconds)
        self._received.inc(record.received_bytes)
        self._sent.inc(record.sent_bytes)
        if px:
            self._pixels.observe(px)
            for name, stage in record.stages.items():
                self._stages.labels(name).observe(stage.seconds)
        if record.key:
            self._key_requests.labels(record.key, record.outcome).inc()
            self._key_pixels.labels(record.key).inc(record.cost_px)


class _ServiceCollector(Collector):
    """Reads the life, the scheduler and the device of a service at the moment of a scrape, on its event loop."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def collect(self) -> Iterator[Metric]:
        """All metrics that are kept elsewhere."""
        build = GaugeMetricFamily("esrgan_build_info", "What runs; the value is 1.", labels=("version", "python"))
        build.add_metric((VERSION, platform.python_version()), 1)
        yield build
        ready = self._life.phase is Phase.READY
        yield GaugeMetricFamily("esrgan_ready", "1 when requests are welcome, else 0.", value=ready)
        yield GaugeMetricFamily("esrgan_requests_running", "Requests that are being answered.", self._life.accepted)
        yield from metrics_of_jobs(self._life.jobs.counters)
        with suppress(Unavailable):  # it is still loading
            service = self._life.service
            yield from _of_scheduler(service.scheduler.counters())
            yield from _of_device(service.device)
            yield from _of_library(service.library)
            for name, size in (("upload", service.uploads.used_bytes), ("picture", service.pictures.used_bytes)):
                yield GaugeMetricFamily(
                    f"esrgan_{name}_memory_bytes", f"Memory that is set aside for {name}s.", value=size
                )


def _of_scheduler(counters: Counters) -> Iterator[Metric]:
    for reading in SCHEDULER:
        yield reading.metric(counters)
    works = CounterMetricFamily("esrgan_works", "Pictures that were admitted and have ended.", labels=("outcome",))
    for outcome, count in counters.outcomes.items():
        works.add_metric((outcome.value,), count)
    yield works
    buckets, total = list[tuple[str, float]](), 0
    for bits in range(max(counters.batch_bits, default=0) + 1):
        total += counters.batch_bits[bits]
        buckets.append((f"{2**bits - 1:.1f}", total))
    yield HistogramMetricFamily(
        "esrgan_batch_pixels",
        "LR px of the batches, padding included.",
        buckets=[*buckets, ("+Inf", total)],
        sum_value=counters.batched_px,
    )


def _of_device(device: DeviceState) -> Iterator[Metric]:
    rescues = CounterMetricFamily(
        "esrgan_rescues", "Work that was done again: after out_of_memory, or in float32.", labels=("model", "reason")
    )
    for model, reasons in device.rescues.items():
        for reason, count in reasons.items():
            rescues.add_metric((model, reason), count)
    yield rescues
    memory = GaugeMetricFamily("esrgan_device_memory_bytes", "Memory of the GPU.", labels=("kind",))
    for kind, size in device.memory_bytes().items():
        memory.add_metric((kind,), size)
    yield memory


def _of_library(library: Library) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "esrgan_model_state", "1 for the state of each model, else 0.", labels=("model", "state")
    )
    memory = GaugeMetricFamily(
        "esrgan_model_memory_bytes",
        "Memory that the networks of each model hold; those between the two of a pair are named `PSNR+GAN:FIDELITY`.",
        labels=("model",),
    )
    for entry in library.entries():
        for state in State:
            states.add_metric((entry.name, state.value), entry.state is state)
    for name, size in library.memory_by_name().items():
        memory.add_metric((name,), size)
    yield states
    yield memory
    loads = CounterMetricFamily(
        "esrgan_model_loads",
        "Networks by what became of them: loaded, failed (did not pass and never served), swapped (replaced an "
        "earlier version), evicted (unloaded for want of memory).",
        labels=("outcome",),
    )
    counters = library.counters
    for outcome, count in (
        ("loaded", counters.loads),
        ("failed", counters.failed_loads),
        ("swapped", counters.swaps),
        ("evicted", counters.evictions),
    ):
        loads.add_metric((outcome,), count)
    yield loads
