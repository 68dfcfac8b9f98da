"""Pictures of mixed sizes, and clients that send them, each its next one after the answer to its last."""

import asyncio
import io
import itertools
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy
from PIL import Image, ImageOps

from benchmarks.rig.pictures import smooth_noise
from model.transfer import Pixels

MIN_PX, MAX_PX = 48, 512
"""Sides of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A square picture and its file."""

    side: int
    picture: Pixels
    """(1, side, side, 3)."""
    png: bytes

    @property
    def px(self) -> int:
        """LR px."""
        return self.side**2


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Time of one upload, from its first byte to the last of its answer."""

    side: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pass:
    """All uploads sent once."""

    wall_s: float
    answered: Sequence[Answered]

    @property
    def px_per_s(self) -> float:
        """LR px per second."""
        return sum(answer.side**2 for answer in self.answered) / self.wall_s


def mixed_sides(count: int, *, choices: Sequence[int] = (), seed: int = 0) -> list[int]:
    """Draw sides in px: spread evenly over the octaves from 48 to 512, or from `choices`."""
    chance = random.Random(seed)
    if choices:
        return chance.choices(choices, k=count)
    ends = math.log(MIN_PX), math.log(MAX_PX)
    return [round(math.exp(chance.uniform(*ends))) for _ in range(count)]


def uploads_of(sides: Sequence[int], folder: Path | None = None) -> list[Upload]:
    """Make uploads of these sizes, of seeded noise or of the middles of the folder's pictures."""
    files = itertools.cycle(_pictures(folder)) if folder else None
    return [_upload(side, seed, next(files) if files else None) for seed, side in enumerate(sides)]


def _pictures(folder: Path) -> list[Path]:
    known = Image.registered_extensions()  # there may be a list of licences, too
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in known)


def _upload(side: int, seed: int, file: Path | None) -> Upload:
    if file is None:
        pixels = smooth_noise(side, side, seed)
    else:
        with Image.open(file) as image:
            pixels = numpy.asarray(ImageOps.fit(image.convert("RGB"), (side, side)))[None].copy()
    png = io.BytesIO()
    Image.fromarray(pixels[0]).save(png, "PNG")
    return Upload(side=side, picture=pixels, png=png.getvalue())


async def send(client: httpx.AsyncClient, upload: Upload) -> Answered:
    """Send one upload and receive its answer.

    Raises:
        RuntimeError: the request was refused, so there is nothing to measure.
    """
    began_s = time.perf_counter()
    files = {"image": ("picture.png", upload.png, "image/png")}
    async with client.stream("POST", "/v1/upscale", files=files) as answer:
        if not answer.is_success:
            raise RuntimeError(f"{upload.side} px: status {answer.status_code}: {(await answer.aread())[:500]!r}")
        async for _ in answer.aiter_raw():
            pass  # an answer may be larger than memory
    return Answered(side=upload.side, seconds=time.perf_counter() - began_s)


async def send_all(client: httpx.AsyncClient, uploads: Sequence[Upload], clients: int) -> Pass:
    """Send every upload once, in order, from `clients` clients at a time."""
    waiting = iter(uploads)
    answered: list[Answered] = []

    async def call() -> None:
        for upload in waiting:
            answered.append(await send(client, upload))  # noqa: PERF401  # clients share the list

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(call())
    return Pass(wall_s=time.perf_counter() - began_s, answered=answered)


async def counters(client: httpx.AsyncClient) -> dict[str, float]:
    """Return the counts of the scheduler since its start; empty for other servers than ours."""
    answer = await client.get("/bench/counters")
    return dict(answer.json()) if answer.is_success else {}


def percentile_s(answered: Sequence[Answered], percent: float) -> float:
    """Return a percentile of the latency in seconds."""
    return float(numpy.percentile([answer.seconds for answer in answered], percent))


def percentiles(answered: Sequence[Answered]) -> tuple[str, str, str]:
    """Return p50, p95 and p99 of the latency in seconds, as table cells."""
    if not answered:
        return "-", "-", "-"
    p50, p95, p99 = numpy.percentile([answer.seconds for answer in answered], [50, 95, 99])
    return f"{p50:.3f}", f"{p95:.3f}", f"{p99:.3f}"
