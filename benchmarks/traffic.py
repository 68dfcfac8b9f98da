"""Pictures of mixed sizes, and callers that send them: each its next one when the answer to the last has come."""

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

from benchmarks.pictures import smooth_noise
from model.transfer import Pixels

SMALLEST_PX, LARGEST_PX = 48, 512
"""Sides of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A square picture on its way."""

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
    """How long one upload took, from its first byte to the last of its answer."""

    side: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pass:
    """All uploads sent once."""

    wall_s: float
    answered: Sequence[Answered]

    @property
    def px_per_s(self) -> float:
        """LR px in a second."""
        return sum(answer.side**2 for answer in self.answered) / self.wall_s


def mixed_sides(count: int, *, choices: Sequence[int] = (), seed: int = 0) -> list[int]:
    """Sides in px: each octave from 48 to 512 as often as any other, or from `choices`."""
    chance = random.Random(seed)
    if choices:
        return chance.choices(choices, k=count)
    ends = math.log(SMALLEST_PX), math.log(LARGEST_PX)
    return [round(math.exp(chance.uniform(*ends))) for _ in range(count)]


def uploads_of(sides: Sequence[int], folder: Path | None = None) -> list[Upload]:
    """Seeded noise of these sizes, or the middles of the folder's pictures, reduced to them."""
    files = itertools.cycle(_pictures(folder)) if folder else None
    return [_upload(side, seed, next(files) if files else None) for seed, side in enumerate(sides)]


def _pictures(folder: Path) -> list[Path]:
    known = Image.registered_extensions()  # a list of licences may lie beside them
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
    """Send one upload and take in its answer.

    Raises:
        RuntimeError: the answer is no picture; a measurement with refused requests would be none.
    """
    began_s = time.perf_counter()
    files = {"image": ("picture.png", upload.png, "image/png")}
    async with client.stream("POST", "/v1/upscale", files=files) as answer:
        if not answer.is_success:
            raise RuntimeError(f"{upload.side} px: status {answer.status_code}: {(await answer.aread())[:500]!r}")
        async for _ in answer.aiter_raw():
            pass  # answers of large pictures are larger than memory should be
    return Answered(side=upload.side, seconds=time.perf_counter() - began_s)


async def send_all(client: httpx.AsyncClient, uploads: Sequence[Upload], callers: int) -> Pass:
    """Send every upload once, in order, from so many callers at a time."""
    waiting = iter(uploads)
    answered: list[Answered] = []

    async def call() -> None:
        for upload in waiting:
            answered.append(await send(client, upload))  # noqa: PERF401  # callers share the list

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
    return Pass(wall_s=time.perf_counter() - began_s, answered=answered)


def percentiles(answered: Sequence[Answered]) -> str:
    """p50, p95 and p99 of the latency in seconds, as a table shows them."""
    if not answered:
        return "-"
    seconds = numpy.percentile([answer.seconds for answer in answered], [50, 95, 99])
    return " / ".join(f"{s:.3f}" for s in seconds)
