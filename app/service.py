"""The way of a picture: upload, decode, schedule, encode. Knows neither HTTP nor torch."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from app.admission import PictureMemory, UploadMemory
from app.batching.backlog import Place
from app.batching.scheduler import Scheduler
from app.batching.work import Work
from app.library.library import Library
from app.library.network import ModelInfo, Network
from app.pictures.decode import Header, decode, read_header
from app.pictures.encode import FORMATS, AnswerFormat, encoded, layout_of
from app.pictures.finish import Finish
from app.pictures.in_thread import in_thread
from app.pictures.metadata import MetadataRule
from app.pictures.picture import Pixels
from app.settings import Settings
from app.telemetry.device import DeviceState
from app.telemetry.record import current_record

BUCKET_STEP_PX = 32
"""On a GPU small pictures share a batch when their sides agree after rounding up to this."""

LEAST_COST_PX = 32 * 32
"""The smallest pictures cost as much as one of these: the time is not in their pixels."""

Result = TypeVar("Result")
Planned = TypeVar("Planned", "Job", None)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture's planes (N, H, W, 3) and the network that upscales them: the scheduler's input."""

    network: Network
    planes: Pixels


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a caller asks of an answer beside the model."""

    scale: float | None = None
    """At least 1, at most the model's, which it is if absent."""
    format: AnswerFormat = FORMATS["png"]
    quality: int | None = None
    """1 to 100; see `app.pictures.encode.encoded`."""
    metadata: MetadataRule = "keep"
    colour_lock: bool = False
    """Low frequencies stay those of the upload."""


DEFAULTS = Wanted()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An encoded picture and how it came about."""

    body: bytes
    format: AnswerFormat
    model: ModelInfo
    frames: int
    """Pictures in the upload, of which this is the first."""
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
        self.uploads = UploadMemory(
            max(settings.max_upload_memory_bytes, settings.max_upload_bytes), lambda: scheduler.backlog_s
        )
        self.pictures = PictureMemory(settings.max_picture_memory_bytes)
        self._headers = ThreadPoolExecutor(1, thread_name_prefix="header")  # a refusal does not wait for a decoder
        self._codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")

    async def upscale(
        self, upload: bytes, network: Network, wanted: Wanted = DEFAULTS, *, deadline_s: float | None = None
    ) -> Answer:
        """Decode, upscale and encode one upload. Cancelling it withdraws its work from the device.

        A place in the queue is taken by what the header tells; without one, nothing is decoded.

        Args:
            network: on lease until this returns.
            deadline_s: on the clock of `time.monotonic`; after it nothing more is done.

        Raises:
            ServiceError: see `app.errors`.
        """
        current_record().model = network.info.name
        header = await in_thread(
            self._headers, functools.partial(read_header, upload, max_px=self.settings.max_picture_px)
        )
        expected = self._work(None, network.info, (header.planes, header.height, header.width), deadline_s)
        with self.scheduler.reserve(expected) as place:
            async with self.pictures.room(memory_bytes(header, network.info.scale)):
                return await self._upscale(upload, network, wanted, deadline_s, place)

    async def _upscale(
        self, upload: bytes, network: Network, wanted: Wanted, deadline_s: float | None, place: Place
    ) -> Answer:
        record, model = current_record(), network.info
        picture, decode_s = await self._in_codec_thread(
            functools.partial(
                decode, upload, max_px=self.settings.max_picture_px, max_width_px=self.settings.max_width_px
            )
        )
        record.took("decode", decode_s)
        record.width_px, record.height_px = picture.width, picture.height
        height, width = (round(side * (wanted.scale or model.scale)) for side in (picture.height, picture.width))
        layout = layout_of(picture, wanted.format, height=height, width=width)
        finish = Finish(picture, model.scale, layout, colour_lock=wanted.colour_lock)
        submitted_s = time.monotonic()
        job = Job(network=network, planes=picture.planes)
        work = self._work(job, model, (len(picture.planes), picture.height, picture.width), deadline_s)
        async with self.scheduler.submit(work, place) as ticket:
            try:
                rows = _Timed(ticket)
                finished = self._finished(rows, finish)
                pieces = encoded(finished, layout, wanted.format, self._codecs, quality=wanted.quality)
                body = b"".join([piece async for piece in pieces])
            finally:
                queue_s = ticket.queue_s if ticket.infer_s else time.monotonic() - submitted_s  # it may still wait
                record.took("queue", queue_s, began_s=submitted_s)
                record.took("infer", ticket.infer_s, began_s=submitted_s + queue_s)
        encode_s = time.monotonic() - rows.ended_s
        record.took("encode", encode_s)
        timings_s = {"decode": decode_s, "queue": ticket.queue_s, "infer": ticket.infer_s, "encode": encode_s}
        return Answer(body=body, format=wanted.format, model=model, frames=picture.frames, timings_s=timings_s)

    async def _finished(self, upscaled: AsyncIterable[Pixels], finish: Finish) -> AsyncGenerator[Pixels, None]:
        async for planes in upscaled:
            if len(rows := await in_thread(self._codecs, functools.partial(finish.rows, planes))):
                yield rows
        if len(rest := await in_thread(self._codecs, finish.rest)):
            yield rest

    def start(self) -> None:
        """Begin to run work, and to watch the models."""
        self.scheduler.start()
        if self.settings.watch_s:
            self.library.watch(self.settings.watch_s)

    def close(self) -> None:
        """End what goes on in the library, and the codec threads; what these run is finished."""
        self.library.close()
        self._headers.shutdown(wait=False)
        self._codecs.shutdown(wait=False)

    def _work(
        self, job: Planned, model: ModelInfo, shape: tuple[int, int, int], deadline_s: float | None
    ) -> Work[Planned]:
        """The work of a job, or of one of which only (planes, height, width) are known."""
        planes, height, width = shape
        px = planes * height * width
        work = functools.partial(Work, input=job, kind=model.version, deadline_s=deadline_s)
        if height * width > (self.settings.whole_picture_px or model.whole_picture_px):
            held_bytes = planes * width * model.state_bytes_per_column
            return work(cost_px=px, row_px=planes * width, held_bytes=held_bytes)
        if model.device == "cpu":  # it groups pictures of one size by itself and pads nothing
            return work(cost_px=max(px, LEAST_COST_PX), bucket="small")
        bucket = tuple(-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (height, width))
        padded_px = planes * bucket[0] * bucket[1]
        return work(cost_px=padded_px, bucket=bucket, padding_px=padded_px - px)

    async def _in_codec_thread(self, call: Callable[[], Result]) -> tuple[Result, float]:
        def timed() -> tuple[Result, float]:
            began_s = time.perf_counter()
            return call(), time.perf_counter() - began_s

        return await asyncio.get_running_loop().run_in_executor(self._codecs, timed)


def memory_bytes(header: Header, scale: int) -> int:
    """Memory that a picture takes at most: decoded, upscaled, and as the bytes of the answer."""
    return 3 * header.planes * header.height * header.width * (1 + 2 * scale**2)


class _Timed:
    """Upscaled rows as they come, and when the last one came."""

    def __init__(self, rows: AsyncIterable[Pixels]) -> None:
        self._rows = rows
        self.ended_s = time.monotonic()

    async def __aiter__(self) -> AsyncIterator[Pixels]:
        async for rows in self._rows:
            yield rows
        self.ended_s = time.monotonic()
