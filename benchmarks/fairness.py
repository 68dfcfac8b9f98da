"""python -m benchmarks.fairness: how long a small picture takes while the service works on a large one."""

import argparse
import asyncio
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy

from benchmarks.load import counters
from benchmarks.networks import add_network_options, write_models
from benchmarks.servers import our_service
from benchmarks.tables import print_bar, print_setting, print_table
from benchmarks.traffic import Answered, Upload, percentiles, send, uploads_of
from model.device import best_device


def main() -> None:
    """Send small pictures one after the other, first alone, then beside a large one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--small", type=int, default=64, help="px of the small square picture")
    parser.add_argument("--large", type=int, default=2048, help="px of the large one")
    parser.add_argument("--samples", type=int, default=50, help="least small pictures sent in each case")
    options = parser.parse_args()

    small, large = uploads_of([options.small, options.large])
    with tempfile.TemporaryDirectory() as folder:
        network = write_models(options, Path(folder))
        with our_service(Path(folder)) as address:
            alone, beside, large_s, piece_s = asyncio.run(_measure(address, small, large, options.samples))
    print_setting(f"{network.name}, {options.small} px beside {options.large} px", best_device())
    rows = [("alone", alone), (f"beside one of {options.large} px", beside), ("the large one itself", large_s)]
    print_table(("what", "answers", "p50 / p95 / p99, s"), [[name, str(len(of)), percentiles(of)] for name, of in rows])
    own_s = _percentile_s(alone, 50)
    print(f"A piece of the large one takes {piece_s:.3f} s on the device.\n")
    print_bar(
        "p95 beside it, in s, against its own time and two pieces",
        _percentile_s(beside, 95),
        at_most=own_s + 2 * piece_s,
    )


async def _measure(
    address: str, small: Upload, large: Upload, samples: int
) -> tuple[list[Answered], list[Answered], list[Answered], float]:
    """Latencies of the small picture alone and beside the large one, of the large one, and seconds of its pieces."""
    async with httpx.AsyncClient(base_url=address, timeout=None) as client:
        await send(client, small)  # warms up
        before = await counters(client)
        large_alone = await send(client, large)
        after = await counters(client)
        piece_s = (after["device_s"] - before["device_s"]) / (after["pieces"] - before["pieces"])
        alone = [await send(client, small) for _ in range(samples)]
        beside: list[Answered] = []
        larges = [large_alone]
        while len(beside) < samples:
            running = asyncio.create_task(send(client, large))
            beside += await _until_done(client, small, running, piece_s)
            larges.append(await running)
    return alone, beside, larges, piece_s


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


def _percentile_s(answered: Sequence[Answered], percent: float) -> float:
    return float(numpy.percentile([answer.seconds for answer in answered], percent))


if __name__ == "__main__":
    main()
