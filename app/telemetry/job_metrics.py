"""Prometheus metrics of jobs. Totals are those of the table, which all processes share; the rest is of this process."""

import time
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.jobs.job import JobState
from app.jobs.service import JobService

DELIVERY_STATES = ("waiting", "delivered", "failed")
DELIVERY_OUTCOMES = ("delivered", "retried", "failed")


def metrics_of_jobs(jobs: JobService) -> Iterator[Metric]:
    """Yield all metrics of jobs."""
    counters, totals = jobs.counters, jobs.counters.totals
    if jobs.is_on:
        yield GaugeMetricFamily(
            "esrgan_stored_jobs_age_seconds",
            "Seconds since the numbers of all machines were read from the table; they are old where it is away.",
            value=time.monotonic() - counters.totals_s,
        )
    states = [state.value for state in JobState]
    yield _gauges("esrgan_stored_jobs", "Jobs by state, on all machines.", totals.jobs, states)
    yield _gauges("esrgan_stored_job_pictures", "Pictures of jobs by state, on all machines.", totals.pictures, states)
    yield GaugeMetricFamily(
        "esrgan_stored_jobs_oldest_waiting_seconds",
        "Age of the oldest job that has not started.",
        value=totals.oldest_waiting_s,
    )
    yield GaugeMetricFamily(
        "esrgan_stored_jobs_bytes", "Bytes that uploads and results of jobs hold.", value=totals.stored_bytes
    )
    ended = CounterMetricFamily(
        "esrgan_stored_job_pictures_ended",
        "Pictures of jobs whose work ended in this process, by state.",
        labels=("state",),
    )
    for state in ("done", "failed", "cancelled"):
        ended.add_metric((state,), counters.ended[state])
    yield ended
    yield CounterMetricFamily(
        "esrgan_stored_job_crashes",
        "Pictures of jobs whose worker died or stopped renewing its lease, noticed by this process.",
        value=counters.crashes,
    )
    yield CounterMetricFamily(
        "esrgan_stored_jobs_expired", "Jobs removed by this process because they had expired.", value=counters.expired
    )
    yield _gauges("esrgan_webhooks", "Webhooks by state, on all machines.", totals.deliveries, DELIVERY_STATES)
    attempts = CounterMetricFamily(
        "esrgan_webhook_attempts", "Attempts of this process to deliver webhooks.", labels=("outcome",)
    )
    for outcome in DELIVERY_OUTCOMES:
        attempts.add_metric((outcome,), counters.webhooks[outcome])
    yield attempts


def _gauges(name: str, text: str, counts: Mapping[str, int], states: Sequence[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("state",))
    for state in states:
        family.add_metric((state,), counts.get(state, 0))
    return family
