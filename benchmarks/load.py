"""python -m benchmarks.load: the service under load, against the bare network and LitServe.

Callers send square pictures of mixed sizes as fast as they are answered. The bare network upscales the same pictures
one after the other, before each server and after the last, so that a machine that slows down is seen.
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

from benchmarks.networks import add_network_options, write_models
from benchmarks.runtimes import Runtime, ours
from benchmarks.servers import litserve_service, our_service
from benchmarks.tables import print_bar, print_progress, print_setting, print_table
from benchmarks.traffic import LARGEST_PX, Pass, Upload, mixed_sides, percentiles, send_all, uploads_of
from model.device import best_device

SIZE_CLASSES_PX = (96, 192, LARGEST_PX)
"""Largest sides of the classes that latency is told by."""

OURS = "esrgan-serve"

NO_LIMITS = httpx.Limits(max_connections=None)

Start = Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one server did for so many callers at a time."""

    server: str
    callers: int
    passes: list[Pass] = field(default_factory=list)
    counted: Mapping[str, float] = field(default_factory=dict)
    """What its scheduler counted meanwhile; empty for other servers."""

    @property
    def px_per_s(self) -> float:
        """LR px in a second, over all passes."""
        return statistics.median(one.px_per_s for one in self.passes)

    def per_batch(self, name: str) -> float | None:
        """A counter for each batch that ran; None where nothing was counted."""
        batches = self.counted.get("batches")
        return self.counted[name] / batches if batches else None


def main() -> None:
    """Measure every server with every number of callers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--pictures", type=int, default=96, help="how many are sent in a pass")
    parser.add_argument("--sides", type=int, nargs="+", default=[], help="px to choose from; else all of 48 to 512")
    parser.add_argument("--folder", type=Path, help="pictures to send, else seeded noise")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=1, help="passes for each number of callers")
    parser.add_argument("--warm-up", type=int, default=16, help="pictures sent before")
    parser.add_argument("--litserve", choices=("eager", "ours"), nargs="*", help="LitServe around these runtimes")
    options = parser.parse_args()

    uploads = uploads_of(mixed_sides(options.pictures, choices=options.sides), options.folder)
    with tempfile.TemporaryDirectory() as folder:
        network = write_models(options, Path(folder))
        bare = ours(network.net, best_device())
        rates = [bare_px_per_s(bare, uploads, options.warm_up)]
        loads: list[Load] = []
        for name, start in _servers(Path(folder), options.litserve).items():
            with start() as address:
                loads += asyncio.run(_loads(name, address, uploads, options))
            rates.append(bare_px_per_s(bare, uploads, options.warm_up))
    px = sum(upload.px for upload in uploads)
    print_setting(f"{network.name}, {len(uploads)} pictures of {px / 1e6:.2f} LR Mpx in all", best_device())
    _print(loads, rates)


def bare_px_per_s(upscale: Runtime, uploads: Sequence[Upload], warm_up: int) -> float:
    """LR px in a second of the network alone on the decoded pictures, one after the other."""
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
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=NO_LIMITS) as client:
        await send_all(client, uploads[: options.warm_up], max(options.callers))
        for callers in options.callers:
            before = await counters(client)
            passes = [await send_all(client, uploads, callers) for _ in range(options.rounds)]
            after = await counters(client)
            counted = {name: value - before.get(name, 0) for name, value in after.items()}
            loads.append(Load(server=server, callers=callers, passes=passes, counted=counted))
            print_progress(f"{server}, {callers} callers: {loads[-1].px_per_s / 1e3:.1f} LR kpx/s")
    return loads


async def counters(client: httpx.AsyncClient) -> dict[str, float]:
    """What the scheduler has counted since the start; empty for other servers than ours."""
    answer = await client.get("/bench/counters")
    return dict(answer.json()) if answer.is_success else {}


def _print(loads: Sequence[Load], bare_rates: Sequence[float]) -> None:
    bare = statistics.median(bare_rates)
    told = ", ".join(f"{rate / 1e3:.1f}" for rate in bare_rates)
    print(f"The bare network, one picture at a time, before, between and after: {told} LR kpx/s\n")
    print_table(
        (
            "server",
            "callers",
            "LR kpx/s",
            "of the bare network",
            "p50 / p95 / p99, s",
            "padding",
            "pictures in a batch",
        ),
        [_throughput(load, bare) for load in loads],
    )
    classes = zip((0, *SIZE_CLASSES_PX), SIZE_CLASSES_PX, strict=False)
    heads = [f"up to {most} px: p50 / p95 / p99, s" for most in SIZE_CLASSES_PX]
    ranges = list(classes)
    print_table(
        ("server", "callers", *heads),
        [[load.server, str(load.callers), *(_latency(load, *sides) for sides in ranges)] for load in loads],
    )
    mine = max((load for load in loads if load.server == OURS), key=lambda load: load.callers)
    print_bar(f"{OURS} with {mine.callers} callers over the bare network", mine.px_per_s / bare, at_least=0.9)
    for other in sorted({load.server for load in loads} - {OURS}):
        best = max(load.px_per_s for load in loads if load.server == other)
        print_bar(f"{OURS} over {other}, at its best", mine.px_per_s / best, at_least=1.5)


def _throughput(load: Load, bare_px_per_s: float) -> list[str]:
    answered = [answer for one in load.passes for answer in one.answered]
    padding_px, batched_px, works = (load.per_batch(name) for name in ("padding_px", "batched_px", "batched_works"))
    return [
        load.server,
        str(load.callers),
        f"{load.px_per_s / 1e3:.1f}",
        f"{load.px_per_s / bare_px_per_s:.2f} x",
        percentiles(answered),
        f"{100 * padding_px / batched_px:.0f} %" if padding_px is not None and batched_px else "-",
        f"{works:.1f}" if works is not None else "-",
    ]


def _latency(load: Load, more_than_px: int, most_px: int) -> str:
    answered = [answer for one in load.passes for answer in one.answered]
    return percentiles([answer for answer in answered if more_than_px < answer.side <= most_px])


if __name__ == "__main__":
    main()
