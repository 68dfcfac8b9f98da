"""python -m benchmarks.routing: which replica a request should go to, by a simulation of devices that share fairly.

Requests arrive at random: 80 % avatars, 17 % photographs, 3 % posters, whose work varies around a mean. Each device
shares its time evenly among its requests, as the scheduler does. Nothing of this machine is measured.
"""

import argparse
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy
import torch

from benchmarks.rig.report import Report, add_record_option, print_progress


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of picture."""

    name: str
    share: float
    """Fraction of all requests."""
    work_s: float
    """Mean time on a device of its own."""


AVATAR = Kind(name="avatar", share=0.80, work_s=0.02)
PHOTO = Kind(name="photo", share=0.17, work_s=0.25)
POSTER = Kind(name="poster", share=0.03, work_s=4.0)
KINDS = (AVATAR, PHOTO, POSTER)

SPREAD = 0.5
"""Standard deviation of the logarithm of the work within a kind."""

MEAN_WORK_S = sum(kind.share * kind.work_s for kind in KINDS)


@dataclass(kw_only=True)
class Request:
    """A request in progress."""

    kind: Kind
    began_s: float
    work_s: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Duration of a request."""

    kind: Kind
    seconds: float
    slowdown: float
    """Relative to its time on a device of its own."""


@dataclass
class Device:
    """A device that shares its time evenly among its requests.

    Its clock counts the work done for each request; a request is done when the clock has advanced by its work.
    """

    clock: float = 0.0
    seen_s: float = 0.0
    waiting: list[tuple[float, int, Request]] = field(default_factory=list)
    """A heap, ordered by the clock at which each request is done."""
    known_work_s: float = 0.0
    """Work that waits, as of the latest report to a balancer."""

    @property
    def count(self) -> int:
        """Number of its requests."""
        return len(self.waiting)

    @property
    def work_s(self) -> float:
        """Work that waits."""
        return sum(due - self.clock for due, _, _ in self.waiting)

    def advance(self, now_s: float) -> None:
        """Advance to a time; no request ends before it."""
        if self.waiting:
            self.clock += (now_s - self.seen_s) / self.count
        self.seen_s = now_s

    def next_end_s(self) -> float:
        """Return when its next request ends, unless another one arrives."""
        return self.seen_s + (self.waiting[0][0] - self.clock) * self.count if self.waiting else math.inf


Route = Callable[[Sequence[Device], random.Random], int]


def at_random(devices: Sequence[Device], chance: random.Random) -> int:
    """Choose by chance, as kube-proxy and ports shared by processes do."""
    return chance.randrange(len(devices))


def round_robin() -> Route:
    """Choose each in turn."""
    turn = itertools.count()
    return lambda devices, chance: next(turn) % len(devices)


def two_choices(devices: Sequence[Device], chance: random.Random) -> int:
    """Choose the less busy of two."""
    return min(chance.sample(range(len(devices)), 2), key=lambda number: devices[number].count)


def least_connections(devices: Sequence[Device], chance: random.Random) -> int:
    """Choose the one with the fewest requests; by chance where several have."""
    return min(range(len(devices)), key=lambda number: (devices[number].count, chance.random()))


def least_work(devices: Sequence[Device], chance: random.Random) -> int:
    """Choose the one with the least work, known exactly and at once."""
    return min(range(len(devices)), key=lambda number: (devices[number].work_s, chance.random()))


def least_known_work(devices: Sequence[Device], chance: random.Random) -> int:
    """Choose the one with the least work, as of the last second."""
    return min(range(len(devices)), key=lambda number: (devices[number].known_work_s, chance.random()))


ROUTES: dict[str, Callable[[], Route]] = {
    "random": lambda: at_random,
    "round robin": round_robin,
    "two choices by requests": lambda: two_choices,
    "least requests": lambda: least_connections,
    "least work, exact": lambda: least_work,
    "least work, a second old": lambda: least_known_work,
}


def main() -> None:
    """Simulate every way to route."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[4])
    parser.add_argument("--load", type=float, nargs="+", default=[0.9], help="share of the time that devices are busy")
    parser.add_argument("--requests", type=int, default=60_000)
    add_record_option(parser)
    options = parser.parse_args()
    with Report("routing", options) as report:
        for devices, load in itertools.product(options.devices, options.load):
            report.setting(
                f"{devices} devices, busy {load:.0%} of the time, {options.requests} requests", torch.device("cpu")
            )
            means = {}
            rows = []
            for name, make in ROUTES.items():
                finished = simulated(make(), devices=devices, load=load, requests=options.requests)
                means[name] = float(numpy.mean([one.seconds for one in finished]))
                rows.append([name, *_row(finished)])
                print_progress(f"{name}: {means[name]:.2f} s")
            report.table(
                (
                    "route",
                    "mean, s",
                    "avatars p50, s",
                    "avatars p99, s",
                    "posters' slowdown p50",
                    "posters' slowdown p95",
                ),
                rows,
            )
            report.bar("mean of random over least requests", means["random"] / means["least requests"], at_least=2)


def simulated(route: Route, *, devices: int, load: float, requests: int, seed: int = 0) -> Sequence[Finished]:
    """Send requests to devices; the first tenth, while these fill up, is left out."""
    chance, choice = random.Random(seed), random.Random(seed + 1)
    fleet = [Device() for _ in range(devices)]
    finished: list[Finished] = []
    now_s, noted_s = 0.0, 0.0
    for number in range(requests):
        now_s += chance.expovariate(load * devices / MEAN_WORK_S)
        request = _request(chance, now_s)
        for device in fleet:
            finished += _finish(device, now_s)
        if now_s - noted_s >= 1:
            noted_s = now_s
            for device in fleet:
                device.known_work_s = device.work_s
        device = fleet[route(fleet, choice)]
        heapq.heappush(device.waiting, (device.clock + request.work_s, number, request))
    return finished[requests // 10 :]


def _request(chance: random.Random, now_s: float) -> Request:
    kind = chance.choices(KINDS, [kind.share for kind in KINDS])[0]
    factor = math.exp(chance.gauss(-(SPREAD**2) / 2, SPREAD))
    return Request(kind=kind, began_s=now_s, work_s=kind.work_s * factor)


def _finish(device: Device, now_s: float) -> list[Finished]:
    """Let a device work until a time; returns the requests that have ended."""
    ended = []
    while (end_s := device.next_end_s()) <= now_s:
        device.advance(end_s)
        _, _, request = heapq.heappop(device.waiting)
        seconds = end_s - request.began_s
        ended.append(Finished(kind=request.kind, seconds=seconds, slowdown=seconds / request.work_s))
    device.advance(now_s)
    return ended


def _row(finished: Sequence[Finished]) -> list[str]:
    avatars = numpy.percentile([one.seconds for one in finished if one.kind is AVATAR], [50, 99])
    posters = numpy.percentile([one.slowdown for one in finished if one.kind is POSTER], [50, 95])
    mean = numpy.mean([one.seconds for one in finished])
    return [f"{mean:.2f}", *(f"{value:.3f}" for value in avatars), *(f"{value:.1f}" for value in posters)]


if __name__ == "__main__":
    main()
