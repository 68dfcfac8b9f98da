"""python -m benchmarks.jobs: latency of a small picture while the service works through a queue of jobs."""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.rig.networks import add_network_options, write_models
from benchmarks.rig.report import Report, add_record_option
from benchmarks.rig.servers import our_service
from benchmarks.rig.traffic import Answered, Upload, counters, percentile_s, percentiles, send, uploads_of
from model.device import best_device

SENDERS = 8
"""Connections that send jobs at a time."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Latencies of the small picture, and the jobs meanwhile."""

    alone: Sequence[Answered]
    during: Sequence[Answered]
    accepted_s: float
    """Seconds until all jobs were accepted."""
    done_per_s: float
    """Jobs that were done meanwhile, per second."""
    piece_s: float
    """Mean duration of a piece of the jobs on the device."""


def main() -> None:
    """Send small pictures one after the other, first alone, then while jobs are queued."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs in the queue")
    parser.add_argument("--job-px", type=int, default=192, help="px of their square pictures")
    parser.add_argument("--small", type=int, default=64, help="px of the small square picture")
    parser.add_argument("--samples", type=int, default=50, help="small pictures in each case")
    add_record_option(parser)
    options = parser.parse_args()

    small, large = uploads_of([options.small, options.job_px])
    with tempfile.TemporaryDirectory() as folder, Report("jobs", options) as report:
        network = write_models(options, Path(folder))
        settings = {"ESRGAN_JOBS_FOLDER": f"{folder}/jobs", "ESRGAN_JOBS_WAITING": str(10 * options.jobs)}
        with our_service(Path(folder), settings) as address:
            measured = asyncio.run(_measure(address, small, large, options.jobs, options.samples))
        report.setting(f"{network.name}, {options.jobs} jobs of {options.job_px} px", best_device())
        rows = [("alone", measured.alone), ("while jobs wait", measured.during)]
        report.table(
            (f"{options.small} px", "answers", "p50, s", "p95, s", "p99, s"),
            [[name, str(len(answers)), *percentiles(answers)] for name, answers in rows],
        )
        report.table(
            ("jobs accepted per s", "done per s between the small pictures"),
            [[f"{options.jobs / measured.accepted_s:.0f}", f"{measured.done_per_s:.1f}"]],
        )
        print(f"A piece of the jobs takes {measured.piece_s:.3f} s on the device.\n")
        report.bar(
            "p95 while jobs wait, in s, against its own time and two pieces",
            percentile_s(measured.during, 95),
            at_most=percentile_s(measured.alone, 50) + 2 * measured.piece_s,
        )


async def _measure(address: str, small: Upload, large: Upload, jobs: int, samples: int) -> Measured:
    async with httpx.AsyncClient(base_url=address, timeout=None, trust_env=False) as client:
        for upload in (small, large):
            await send(client, upload)  # warms up
        alone = [await send(client, small) for _ in range(samples)]
        accepted_s = await _send_jobs(client, large, jobs)
        before, began_s = await counters(client), time.perf_counter()
        during = await _during(client, small, samples)
        after, wall_s = await counters(client), time.perf_counter() - began_s
        if not await _waiting(client):
            raise SystemExit("all jobs were done before the last picture was measured; take more --jobs")
    return Measured(
        alone=alone,
        during=during,
        accepted_s=accepted_s,
        done_per_s=(after["done_px"] - before["done_px"] - samples * small.px) / large.px / wall_s,
        piece_s=(after["device_s"] - before["device_s"]) / (after["pieces"] - before["pieces"]),
    )


async def _send_jobs(client: httpx.AsyncClient, upload: Upload, count: int) -> float:
    """Return the seconds until all of them were accepted."""
    waiting = iter(range(count))

    async def call() -> None:
        for _ in waiting:
            (await client.post("/v1/jobs", content=upload.png)).raise_for_status()

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(call())
    return time.perf_counter() - began_s


async def _during(client: httpx.AsyncClient, small: Upload, samples: int) -> list[Answered]:
    """Send the small picture at seeded random moments."""
    chance = random.Random(0)
    answered: list[Answered] = []
    for _ in range(samples):
        await asyncio.sleep(chance.uniform(0, 0.5))
        answered.append(await send(client, small))
    return answered


async def _waiting(client: httpx.AsyncClient) -> int:
    """Return the number of jobs that wait, from the metrics."""
    metrics = (await client.get("/metrics")).raise_for_status().text
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in metrics.splitlines()
        if line.startswith('esrgan_stored_jobs{state="waiting"}')
    )


if __name__ == "__main__":
    main()
