"""python -m benchmarks.load: the service under load, against the bare network and LitServe.

Clients send square pictures of mixed sizes, each as soon as the answer to its last has arrived. The bare network
upscales the same pictures one after the other, before each server and after the last, which shows a machine that slows
down.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import httpx

from benchmarks.rig.networks import add_network_options, write_models
from benchmarks.rig.report import Report, add_record_option, print_progress
from benchmarks.rig.runtimes import Runtime, ours
from benchmarks.rig.servers import litserve_service, our_service
from benchmarks.rig.traffic import MAX_PX, Pass, Upload, counters, mixed_sides, percentiles, send_all, uploads_of
from model.device import best_device

SIZE_CLASSES_PX = (96, 192, MAX_PX)
"""Largest sides of the size classes in the table of latencies."""

OURS = "esrgan-serve"

NO_LIMITS = httpx.Limits(max_connections=None)

Start = Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True, kw_only=True)
class Load:
    """Passes of one server with one number of clients."""

    server: str
    clients: int
    passes: list[Pass] = field(default_factory=list)
    counted: Mapping[str, float] = field(default_factory=dict)
    """Counts of its scheduler meanwhile; empty for other servers."""

    @property
    def px_per_s(self) -> float:
        """LR px per second: the median pass."""
        return statistics.median(one.px_per_s for one in self.passes)

    def per_batch(self, name: str) -> float | None:
        """Return a counter divided by the number of batches; None if nothing was counted."""
        batches = self.counted.get("batches")
        return self.counted[name] / batches if batches else None


def main() -> None:
    """Measure every server with every number of clients."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--pictures", type=int, default=96, help="pictures sent in a pass")
    parser.add_argument("--sides", type=int, nargs="+", default=[], help="px to choose from; else all of 48 to 512")
    parser.add_argument("--folder", type=Path, help="pictures to send, else seeded noise")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=1, help="passes for each number of clients")
    parser.add_argument("--warm-up", type=int, default=16, help="pictures sent before the first pass")
    parser.add_argument("--litserve", choices=("eager", "ours"), nargs="*", help="LitServe around these runtimes")
    add_record_option(parser)
    options = parser.parse_args()

    uploads = uploads_of(mixed_sides(options.pictures, choices=options.sides), options.folder)
    with tempfile.TemporaryDirectory() as folder, Report("load", options) as report:
        network = write_models(options, Path(folder))
        bare = ours(network.net, best_device())
        rates = [bare_px_per_s(bare, uploads, options.warm_up)]
        loads: list[Load] = []
        for name, start in _servers(Path(folder), options.litserve).items():
            with start() as address:
                loads += asyncio.run(_loads(name, address, uploads, options))
            rates.append(bare_px_per_s(bare, uploads, options.warm_up))
        px = sum(upload.px for upload in uploads)
        report.setting(f"{network.name}, {len(uploads)} pictures of {px / 1e6:.2f} LR Mpx in all", best_device())
        _print(report, loads, rates)


def bare_px_per_s(upscale: Runtime, uploads: Sequence[Upload], warm_up: int) -> float:
    """Return LR px per second of the network alone on the decoded pictures, one after the other."""
    for upload in uploads[:warm_up]:
        upscale(upload.picture)
    began_s = time.perf_counter()
    for upload in uploads:
        upscale(upload.picture)
    return sum(upload.px for upload in uploads) / (time.perf_counter() - began_s)


def _servers(models: Path, litserve_runtimes: Sequence[str] | None) -> dict[str, Start]:
    (weights,) = models.glob("*.safetensors")
    servers: dict[str, Start] = {OURS: lambda: our_service(models)}
    if litserve_runtimes is not None:
        if find_spec("litserve") is None:
            print("LitServe: not installed\n")
            return servers
        for runtime in litserve_runtimes or ("eager", "ours"):
            servers[f"LitServe, {runtime}"] = partial(litserve_service, weights, runtime)
    return servers


async def _loads(server: str, address: str, uploads: Sequence[Upload], options: argparse.Namespace) -> list[Load]:
    loads = []
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=NO_LIMITS, trust_env=False) as client:
        await send_all(client, uploads[: options.warm_up], max(options.clients))
        for clients in options.clients:
            before = await counters(client)
            passes = [await send_all(client, uploads, clients) for _ in range(options.rounds)]
            after = await counters(client)
            counted = {name: value - before.get(name, 0) for name, value in after.items()}
            loads.append(Load(server=server, clients=clients, passes=passes, counted=counted))
            print_progress(f"{server}, {clients} clients: {loads[-1].px_per_s / 1e3:.1f} LR kpx/s")
    return loads


def _print(report: Report, loads: Sequence[Load], bare_rates: Sequence[float]) -> None:
    bare = statistics.median(bare_rates)
    listed = ", ".join(f"{rate / 1e3:.1f}" for rate in bare_rates)
    print(f"The bare network, one picture at a time, before, between and after: {listed} LR kpx/s\n")
    report.table(
        (
            "server",
            "clients",
            "LR kpx/s",
            "of the bare network",
            "p50, s",
            "p95, s",
            "p99, s",
            "padding",
            "pictures in a batch",
        ),
        [_throughput(load, bare) for load in loads],
    )
    classes = zip((0, *SIZE_CLASSES_PX), SIZE_CLASSES_PX, strict=False)
    heads = [f"up to {px} px: p50 / p95 / p99, s" for px in SIZE_CLASSES_PX]
    ranges = list(classes)
    report.table(
        ("server", "clients", *heads),
        [[load.server, str(load.clients), *(_latency(load, *sides) for sides in ranges)] for load in loads],
    )
    mine = max((load for load in loads if load.server == OURS), key=lambda load: load.clients)
    report.bar(f"{OURS} with {mine.clients} clients over the bare network", mine.px_per_s / bare, at_least=0.9)
    for other in sorted({load.server for load in loads} - {OURS}):
        best = max(load.px_per_s for load in loads if load.server == other)
        report.bar(f"{OURS} over {other}, at its best", mine.px_per_s / best, at_least=1.5)


def _throughput(load: Load, bare_px_per_s: float) -> list[str]:
    answered = [answer for one in load.passes for answer in one.answered]
    padding_px, batched_px, jobs = (load.per_batch(name) for name in ("padding_px", "batched_px", "batched_jobs"))
    return [
        load.server,
        str(load.clients),
        f"{load.px_per_s / 1e3:.1f}",
        f"{load.px_per_s / bare_px_per_s:.2f} x",
        *percentiles(answered),
        f"{100 * padding_px / batched_px:.0f} %" if padding_px is not None and batched_px else "-",
        f"{jobs:.1f}" if jobs is not None else "-",
    ]


def _latency(load: Load, min_px: int, max_px: int) -> str:
    answered = [answer for one in load.passes for answer in one.answered]
    return " / ".join(percentiles([answer for answer in answered if min_px < answer.side <= max_px]))


if __name__ == "__main__":
    main()
