"""python -m benchmarks.soak --minutes 10: memory, threads and open files of the service under good and bad clients.

The pixels of every answer are compared with the first answer to the same picture. The figures are Linux's for the
service's process.
"""

import argparse
import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch

from app.settings import SHIPPED_MODELS
from benchmarks.rig.clients import Clients
from benchmarks.rig.machine import process_status
from benchmarks.rig.report import Report, add_record_option, print_progress
from benchmarks.rig.servers import STOP_S, service_process
from benchmarks.rig.traffic import mixed_sides

WARM_S = 60
"""Seconds after which every size has been seen; growth is counted from here."""

QUIET_S = 15
"""Pause between the last call and the last sample."""

SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sides of the pictures in px."""

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """State of the service's process at one time."""

    at_s: float
    rss_bytes: int
    threads: int
    files: int
    answers: Counter[int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--models", type=Path, default=SHIPPED_MODELS, help="folder of weight files")
    parser.add_argument("--good", type=int, default=8, help="clients that wait for their answers")
    parser.add_argument("--largest", type=int, default=128, help="px, the side of the largest pictures: 16 to 512")
    parser.add_argument(
        "--bad", type=int, default=2, help="clients of each bad kind: leaving, stalling, sending rubbish"
    )
    add_record_option(parser)
    options = parser.parse_args()
    what = f"{options.minutes:g} minutes of {options.good} good clients and 3 x {options.bad} bad ones"
    with Report("soak", options) as report:
        report.setting(what, torch.device("cpu"))
        asyncio.run(_soak(options, report))


async def _soak(options: argparse.Namespace, report: Report) -> None:
    with service_process(options.models) as (port, process):
        sides = [side for side in SIDES if side <= options.largest]
        clients = Clients(port, mixed_sides(40, choices=sides))
        samples: list[Sample] = []
        began_s = time.monotonic()
        every_s = max(5.0, options.minutes * 3)
        watch = asyncio.create_task(_watch(process.pid, clients, samples, began_s=began_s, every_s=every_s))
        end = asyncio.sleep(options.minutes * 60)
        await clients.run(good=options.good, leaving=options.bad, stalling=options.bad, rubbish=options.bad, until=end)
        await asyncio.sleep(QUIET_S)
        watch.cancel()
        quiet = _sample(process.pid, clients, time.monotonic() - began_s)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            ready = (await client.get("/readyz")).status_code
        signalled_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(process.wait, STOP_S)
        stopped_s = time.monotonic() - signalled_s
        _print(report, [*samples, quiet], clients)
        print(f"- afterwards /readyz answered {ready}; SIGTERM ended it with status {status} in {stopped_s:.1f} s")


async def _watch(pid: int, clients: Clients, samples: list[Sample], *, began_s: float, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        latest = _sample(pid, clients, time.monotonic() - began_s)
        samples.append(latest)
        print_progress(f"{latest.at_s:.0f} s: {latest.rss_bytes / MIB:.0f} MiB, {dict(latest.answers)}")


def _sample(pid: int, clients: Clients, at_s: float) -> Sample:
    return Sample(
        at_s=at_s,
        rss_bytes=process_status(pid, "VmRSS"),
        threads=process_status(pid, "Threads"),
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        answers=clients.seen.statuses.copy(),
    )


def _print(report: Report, samples: list[Sample], clients: Clients) -> None:
    heads = ("time, s", "RSS, MiB", "threads", "open files", "answers 200", "429", "other refusals")
    report.table(heads, [_row(sample) for sample in samples])
    seen = clients.seen
    print(f"- answers by status: {dict(sorted(seen.statuses.items()))}; clients that left or stalled: {seen.left}")
    for wrong, count in Counter(seen.wrong).most_common(5):
        print(f"- wrong, {count} times: {wrong}")
    report.bar("wrong answers", len(seen.wrong), at_most=0)
    warm = [sample for sample in samples if sample.at_s >= WARM_S] or samples
    first, second = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    if first:
        growth = max(s.rss_bytes for s in second) / max(s.rss_bytes for s in first)
        report.bar("largest RSS in the second half over that in the first", growth, at_most=1.1)


def _row(sample: Sample) -> list[str]:
    other = sum(count for status, count in sample.answers.items() if status not in (200, 429))
    own = (sample.at_s, sample.rss_bytes / MIB, sample.threads, sample.files)
    return [*(f"{number:.0f}" for number in own), *map(str, (sample.answers[200], sample.answers[429], other))]


if __name__ == "__main__":
    main()
