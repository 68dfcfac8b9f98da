"""python -m benchmarks.fairness: latency of a small picture while the service upscales a large one."""

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

import httpx

from benchmarks.rig.networks import add_network_options, write_models
from benchmarks.rig.report import Report, add_record_option
from benchmarks.rig.servers import our_service
from benchmarks.rig.traffic import Answered, Upload, counters, percentile_s, percentiles, send, uploads_of
from model.device import best_device


def main() -> None:
    """Send small pictures one after the other, first alone, then during a large one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--small", type=int, default=64, help="px of the small square picture")
    parser.add_argument("--large", type=int, default=2048, help="px of the large one")
    parser.add_argument("--samples", type=int, default=50, help="minimum number of small pictures in each case")
    add_record_option(parser)
    options = parser.parse_args()

    small, large = uploads_of([options.small, options.large])
    with tempfile.TemporaryDirectory() as folder, Report("fairness", options) as report:
        network = write_models(options, Path(folder))
        with our_service(Path(folder)) as address:
            alone, during, large_s, piece_s = asyncio.run(_measure(address, small, large, options.samples))
        report.setting(f"{network.name}, {options.small} px during {options.large} px", best_device())
        rows = [("alone", alone), (f"during one of {options.large} px", during), ("the large one itself", large_s)]
        report.table(
            ("what", "answers", "p50, s", "p95, s", "p99, s"),
            [[name, str(len(answers)), *percentiles(answers)] for name, answers in rows],
        )
        print(f"A piece of the large one takes {piece_s:.3f} s on the device.\n")
        report.bar(
            "p95 during it, in s, against its own time and two pieces",
            percentile_s(during, 95),
            at_most=percentile_s(alone, 50) + 2 * piece_s,
        )


async def _measure(
    address: str, small: Upload, large: Upload, samples: int
) -> tuple[list[Answered], list[Answered], list[Answered], float]:
    """Return latencies of the small picture alone and during the large one, of the large one, and seconds per piece."""
    async with httpx.AsyncClient(base_url=address, timeout=None, trust_env=False) as client:
        await send(client, small)  # warms up
        before = await counters(client)
        large_alone = await send(client, large)
        after = await counters(client)
        piece_s = (after["device_s"] - before["device_s"]) / (after["pieces"] - before["pieces"])
        alone = [await send(client, small) for _ in range(samples)]
        during: list[Answered] = []
        large_ones = [large_alone]
        while len(during) < samples:
            running = asyncio.create_task(send(client, large))
            during += await _until_done(client, small, running, piece_s)
            large_ones.append(await running)
    return alone, during, large_ones, piece_s


async def _until_done(
    client: httpx.AsyncClient, small: Upload, running: asyncio.Task[Answered], piece_s: float
) -> list[Answered]:
    """Send the small picture again and again while the large one runs, at seeded random moments of its pieces."""
    chance = random.Random(0)
    await asyncio.sleep(2 * piece_s)  # until it is decoded and runs
    answered: list[Answered] = []
    while True:
        await asyncio.sleep(chance.uniform(0, 2 * piece_s))
        answer = await send(client, small)
        if running.done():
            return answered
        answered.append(answer)


if __name__ == "__main__":
    main()
