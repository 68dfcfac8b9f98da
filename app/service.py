"""The way of a picture: upload, decode, schedule, encode. Knows neither HTTP nor torch."""

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from app.batching.scheduler import Scheduler
from app.batching.work import Work
from app.errors import NoSuchModel
from app.pictures.decode import decode
from app.pictures.encode import encode_png
from app.pictures.picture import Picture, Pixels
from app.settings import Settings

BUCKET_STEP_PX = 32
"""Small pictures share a batch when their sides agree after rounding up to this."""

MOST_BAND_ROWS = 128
"""Bands of narrow pictures stay small enough for other requests to get in between."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What callers may know of a model."""

    name: str
    sha256: str
    scale: int
    device: str
    precision: str
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def version(self) -> str:
        """Name and the first digits of the weights' hash: tells which weights made an answer."""
        return f"{self.name}@{self.sha256[:12]}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture's planes (N, H, W, 3) and the model that upscales them: the scheduler's input."""

    model: str
    planes: Pixels
    band_rows: int = 0
    """Rows that go through the network at a time, where the job runs as a stream."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An encoded picture and how it came about."""

    png: bytes
    model: ModelInfo
    timings_s: Mapping[str, float]


class UpscaleService:
    """Upscales uploads with the models that are loaded.

    Args:
        models: by name; `settings.default_model` is one of them.
    """

    def __init__(self, settings: Settings, models: Mapping[str, ModelInfo], scheduler: Scheduler[Job, Pixels]) -> None:
        self.settings = settings
        self.models = models
        self.scheduler = scheduler
        self._codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")

    def model(self, name: str | None) -> ModelInfo:
        """The model of that name, or the default one.

        Raises:
            NoSuchModel: no such model is loaded.
        """
        name = name or self.settings.default_model
        if name not in self.models:
            raise NoSuchModel(f"there is no model {name[:100]!r}; there are {', '.join(sorted(self.models))}")
        return self.models[name]

    async def upscale(self, upload: bytes, model: ModelInfo) -> Answer:
        """Decode, upscale and encode one upload. Cancelling it withdraws its work from the device.

        Raises:
            ServiceError: see `app.errors`.
        """
        picture, decode_s = await self._in_codec_thread(
            functools.partial(
                decode, upload, max_px=self.settings.max_picture_px, max_width_px=self.settings.max_width_px
            )
        )
        done = await self.scheduler.submit(self._work(picture, model))
        png, encode_s = await self._in_codec_thread(functools.partial(encode_png, done.output, picture))
        timings_s = {"decode": decode_s, "queue": done.queue_s, "infer": done.infer_s, "encode": encode_s}
        return Answer(png=png, model=model, timings_s=timings_s)

    def close(self) -> None:
        """End the codec threads; what they run is finished."""
        self._codecs.shutdown(wait=False)

    def _work(self, picture: Picture, model: ModelInfo) -> Work[Job]:
        planes = len(picture.planes)
        if picture.height * picture.width > self.settings.whole_picture_px:
            row_px = planes * picture.width
            rows = min(max(1, self.settings.band_px // row_px), MOST_BAND_ROWS, picture.height)
            job = Job(model=model.name, planes=picture.planes, band_rows=rows)
            return Work(input=job, cost_px=row_px * picture.height, bucket=None, piece_px=row_px * rows)
        job = Job(model=model.name, planes=picture.planes)
        height, width = (-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (picture.height, picture.width))
        cost_px = planes * height * width
        return Work(input=job, cost_px=cost_px, bucket=(model.name, height, width), piece_px=cost_px)

    async def _in_codec_thread(self, call: Callable[[], Result]) -> tuple[Result, float]:
        def timed() -> tuple[Result, float]:
            began_s = time.perf_counter()
            return call(), time.perf_counter() - began_s

        return await asyncio.get_running_loop().run_in_executor(self._codecs, timed)
