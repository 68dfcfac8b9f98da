"""Prometheus metrics. Requests are counted when they end; everything else is read at the moment of a scrape.

"Pixels" in a name are LR px, the unit of every budget.
"""

import logging
import math
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app import VERSION
from app.batching.counters import Counters
from app.errors import Unavailable
from app.library.entry import ModelState
from app.library.library import Library
from app.lifecycle import Lifecycle, Phase
from app.record import RequestRecord
from app.service import DeviceState
from app.telemetry.job_metrics import metrics_of_jobs

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)
PIXELS = tuple(4.0**power for power in range(5, 14))
"""From 32 x 32 to 8192 x 8192."""

ALERTED_RETRIES = ("out_of_memory", "float32")
"""Reasons that are shown from 0 on: Prometheus sees no increase in a counter that begins at 1."""

log = logging.getLogger(__name__)


class Metrics:
    """All metrics of one service.

    Args:
        life: of the service, which may not be loaded yet.
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
            "Time from the first header of a request to the last byte of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "esrgan_stage_duration_seconds",
            "Time of each stage of a request: read, decode, queue, infer, encode, send.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._pixels = Histogram(
            "esrgan_picture_pixels", "LR px of the uploaded pictures.", buckets=PIXELS, registry=self.registry
        )
        self._received = Counter("esrgan_received_bytes", "Bytes of the requests' bodies.", registry=self.registry)
        self._sent = Counter("esrgan_sent_bytes", "Bytes of the answers' bodies.", registry=self.registry)
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
    """Reads the lifecycle, scheduler and device of a service at the moment of a scrape, on its event loop."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics that are kept elsewhere."""
        build = GaugeMetricFamily(
            "esrgan_build_info",
            "Versions of the service, and the number format that ESRGAN_PRECISION names; the value is 1.",
            labels=("version", "python", "precision"),
        )
        build.add_metric((VERSION, platform.python_version(), self._life.settings.precision), 1)
        yield build
        ready = self._life.phase is Phase.READY
        yield GaugeMetricFamily("esrgan_ready", "1 when /readyz answers 200, else 0.", value=ready)
        yield GaugeMetricFamily("esrgan_requests_running", "Requests being answered.", self._life.accepted)
        yield from metrics_of_jobs(self._life.jobs)
        with suppress(Unavailable):  # still loading
            service = self._life.service
            yield from _scheduler_metrics(service.scheduler.counters())
            yield from _readable(_device_metrics(service.device))
            yield from _readable(_library_metrics(service.library))
            for name, size in (("upload", service.uploads.used_bytes), ("picture", service.pictures.used_bytes)):
                yield GaugeMetricFamily(f"esrgan_{name}_memory_bytes", f"Memory reserved for {name}s.", value=size)


def _readable(metrics: Iterator[Metric]) -> Sequence[Metric]:
    """Return some metrics, or none if they cannot be read.

    The device's thread changes their sources meanwhile, and scrapes must work especially while something is broken.
    """
    try:
        return list(metrics)
    except Exception:
        log.exception("some metrics cannot be read; the others are complete")
        return ()


def _scheduler_metrics(counters: Counters) -> Iterator[Metric]:
    yield from _queue_metrics(counters)
    for name, text, total in (
        ("esrgan_done_pixels", "LR px that were processed for pictures still wanted.", counters.done_px),
        ("esrgan_pieces", "Batches and bands that ran.", counters.pieces),
        ("esrgan_batched_pictures", "Pictures processed in batches.", counters.batched_jobs),
        ("esrgan_padding_pixels", "LR px of padding in all batches.", counters.padding_px),
        ("esrgan_device_busy_seconds", "Seconds that the device was busy.", counters.device_s),
        ("esrgan_refused_pictures", "Pictures refused because the queue was full.", counters.refused),
    ):
        yield CounterMetricFamily(name, text, value=total)
    pictures = CounterMetricFamily(
        "esrgan_pictures", "Pictures that were accepted and have ended.", labels=("outcome",)
    )
    for outcome, count in counters.outcomes.items():
        pictures.add_metric((outcome.value,), count)
    yield pictures
    buckets, total = list[tuple[str, float]](), 0
    for bits in range(max(counters.batch_bits, default=0) + 1):
        total += counters.batch_bits[bits]
        buckets.append((f"{2**bits - 1:.1f}", total))
    yield HistogramMetricFamily(
        "esrgan_batch_pixels",
        "LR px of the batches, including padding.",
        buckets=[*buckets, ("+Inf", total)],
        sum_value=counters.batched_px,
    )


def _queue_metrics(counters: Counters) -> Iterator[Metric]:
    waiting_px = max(0, counters.queued_px - counters.running_px)
    backlog_s = math.nan if counters.backlog_s is None else counters.backlog_s
    backlog = "Predicted seconds until everything that waits or runs is done; NaN before anything was learned."
    streams = "Memory on the device held by open row streams."
    for name, text, now in (
        ("esrgan_queued_pixels", "LR px waiting for the device.", waiting_px),
        ("esrgan_in_flight_pixels", "LR px of the pieces submitted to the device.", counters.running_px),
        ("esrgan_queued_pictures", "Pictures that wait or run.", counters.queued),
        ("esrgan_backlog_seconds", backlog, backlog_s),
        ("esrgan_open_streams", "Open row streams.", counters.open_streams),
        ("esrgan_open_streams_bytes", streams, counters.stream_bytes),
    ):
        yield GaugeMetricFamily(name, text, value=now)


def _device_metrics(device: DeviceState) -> Iterator[Metric]:
    retries = CounterMetricFamily(
        "esrgan_rescues", "Work that was retried: after out_of_memory, or in float32.", labels=("model", "reason")
    )
    for model, reasons in dict(device.retries).items():  # copies, since the device's thread adds to both
        for reason, count in (dict.fromkeys(ALERTED_RETRIES, 0) | dict(reasons)).items():
            retries.add_metric((model, reason), count)
    yield retries
    memory = GaugeMetricFamily("esrgan_device_memory_bytes", "Memory of the GPU.", labels=("kind",))
    for kind, size in device.memory_bytes().items():
        memory.add_metric((kind,), size)
    yield memory


def _library_metrics(library: Library) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "esrgan_model_state", "1 for the state of each model, else 0.", labels=("model", "state")
    )
    memory = GaugeMetricFamily(
        "esrgan_model_memory_bytes",
        "Memory of each model's networks; blends of a pair are named `PSNR+GAN:FIDELITY`.",
        labels=("model",),
    )
    how = GaugeMetricFamily(
        "esrgan_model_info",
        "How each model runs; the value is 1.",
        labels=("model", "device", "precision", "convolution"),
    )
    for entry in library.entries():
        if entry.loaded is not None:
            network = entry.loaded.network
            info, convolution = network.info, network.upscaler.convolution
            how.add_metric((entry.name, info.device, info.precision, convolution), 1)
        for state in ModelState:
            states.add_metric((entry.name, state.value), entry.state is state)
    for name, size in library.memory_by_name().items():
        memory.add_metric((name,), size)
    yield states
    yield how
    yield memory
    loads = CounterMetricFamily(
        "esrgan_model_loads",
        "Networks by outcome: loaded, failed (did not pass the tests), swapped (replaced an earlier version), evicted "
        "(unloaded to free memory).",
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
