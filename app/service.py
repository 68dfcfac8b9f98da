"""The way of a picture: upload, decode, schedule, encode. Knows neither HTTP nor torch."""

import asyncio
import functools
import time
from collections.abc import AsyncIterable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy

from app.batching.scheduler import Scheduler
from app.batching.work import Work
from app.library.library import Library
from app.library.network import ModelInfo, Network
from app.pictures.decode import decode
from app.pictures.encode import encode_png
from app.pictures.picture import Picture, Pixels
from app.settings import Settings
from app.telemetry.device import DeviceState
from app.telemetry.record import current_record

BUCKET_STEP_PX = 32
"""On a GPU small pictures share a batch when their sides agree after rounding up to this."""

LEAST_COST_PX = 32 * 32
"""The smallest pictures cost as much as one of these: the time is not in their pixels."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture's planes (N, H, W, 3) and the network that upscales them: the scheduler's input."""

    network: Network
    planes: Pixels


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An encoded picture and how it came about."""

    png: bytes
    model: ModelInfo
    timings_s: Mapping[str, float]


class UpscaleService:
    """Upscales uploads with the models of a library."""

    def __init__(
        self, settings: Settings, library: Library, scheduler: Scheduler[Job, Pixels], device: DeviceState
    ) -> None:
        self.settings = settings
        self.library = library
        self.scheduler = scheduler
        self.device = device
        self._codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")

    async def upscale(self, upload: bytes, network: Network) -> Answer:
        """Decode, upscale and encode one upload. Cancelling it withdraws its work from the device.

        Args:
            network: on lease until this returns.

        Raises:
            ServiceError: see `app.errors`.
        """
        record = current_record()
        record.model = network.info.name
        picture, decode_s = await self._in_codec_thread(
            functools.partial(
                decode, upload, max_px=self.settings.max_picture_px, max_width_px=self.settings.max_width_px
            )
        )
        record.took("decode", decode_s)
        record.width_px, record.height_px = picture.width, picture.height
        submitted_s = time.monotonic()
        async with self.scheduler.submit(self._work(picture, network)) as ticket:
            try:
                upscaled = await _assembled(ticket, picture, network.info.scale)
            finally:
                queue_s = ticket.queue_s if ticket.infer_s else time.monotonic() - submitted_s  # it may still wait
                record.took("queue", queue_s, began_s=submitted_s)
                record.took("infer", ticket.infer_s, began_s=submitted_s + queue_s)
        png, encode_s = await self._in_codec_thread(functools.partial(encode_png, upscaled, picture))
        record.took("encode", encode_s)
        timings_s = {"decode": decode_s, "queue": ticket.queue_s, "infer": ticket.infer_s, "encode": encode_s}
        return Answer(png=png, model=network.info, timings_s=timings_s)

    def close(self) -> None:
        """End what goes on in the library, and the codec threads; what these run is finished."""
        self.library.close()
        self._codecs.shutdown(wait=False)

    def _work(self, picture: Picture, network: Network) -> Work[Job]:
        model, job = network.info, Job(network=network, planes=picture.planes)
        planes, height, width, _ = picture.planes.shape
        px = planes * height * width
        if height * width > (self.settings.whole_picture_px or model.whole_picture_px):
            held_bytes = planes * width * model.state_bytes_per_column
            return Work(input=job, cost_px=px, kind=model.version, row_px=planes * width, held_bytes=held_bytes)
        if model.device == "cpu":  # it groups pictures of one size by itself and pads nothing
            return Work(input=job, cost_px=max(px, LEAST_COST_PX), kind=model.version, bucket="small")
        bucket = tuple(-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (height, width))
        padded_px = planes * bucket[0] * bucket[1]
        return Work(input=job, cost_px=padded_px, kind=model.version, bucket=bucket, padding_px=padded_px - px)

    async def _in_codec_thread(self, call: Callable[[], Result]) -> tuple[Result, float]:
        def timed() -> tuple[Result, float]:
            began_s = time.perf_counter()
            return call(), time.perf_counter() - began_s

        return await asyncio.get_running_loop().run_in_executor(self._codecs, timed)


async def _assembled(parts: AsyncIterable[Pixels], picture: Picture, scale: int) -> Pixels:
    """The rows of an answer, in one array that is filled as they come."""
    upscaled = numpy.empty((len(picture.planes), picture.height * scale, picture.width * scale, 3), numpy.uint8)
    filled = 0
    async for rows in parts:
        upscaled[:, filled : filled + rows.shape[1]] = rows
        filled += rows.shape[1]
    return upscaled
