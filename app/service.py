"""The way of a picture: upload, decode, schedule, encode. Knows neither HTTP nor torch."""

import asyncio
import functools
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from app.admission import PictureMemory, UploadMemory
from app.batching.backlog import Place
from app.batching.job import Work
from app.batching.scheduler import Scheduler
from app.errors import TooLarge
from app.library.library import Library
from app.library.network import ModelInfo, Network
from app.pictures.decode import Header, decode, prepare_decoders, read_header
from app.pictures.encode import FORMATS, AnswerFormat, chosen_format, encoded, layout_of
from app.pictures.limits import Limits
from app.pictures.metadata import MetadataRule
from app.pictures.picture import Pixels
from app.pictures.postprocess import Finish
from app.record import current_record
from app.settings import Settings
from app.threads import in_thread

BUCKET_STEP_PX = 32
"""On a GPU small pictures share a batch when their sides agree after rounding up to this."""

DECODING_COPIES = 2.5
"""What a picture takes at most while it is decoded, in pictures."""

LEAST_BAND_ROWS = 8
"""Of a stream: the lower a band, the longer each of its pixels takes (ADR 7)."""

LEAST_COST_PX = 32 * 32
"""The smallest pictures cost as much as one of these: the time is not in their pixels."""

ENSEMBLE_RUNS = 8
"""How often an ensemble goes through the network: four rotations, each also mirrored."""

Result = TypeVar("Result")
Planned = TypeVar("Planned", "Job", None)
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture's planes (N, H, W, 3) and the network that upscales them: the scheduler's input."""

    network: Network
    planes: Pixels
    ensemble: bool = False
    """Their mean over all turns is wanted."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Wishes of a caller for an answer, apart from the model."""

    scale: float | None = None
    """At least 1, at most the model's, which it is if absent."""
    formats: Sequence[AnswerFormat] = (FORMATS["png"],)
    """Formats that the caller accepts, the preferred one first; see `app.pictures.encode.chosen_format`."""
    quality: int | None = None
    """1 to 100; see `app.pictures.encode.encoded`."""
    metadata: MetadataRule = "keep"
    colour_lock: bool = False
    """Low frequencies stay those of the upload."""
    ensemble: bool = False
    """The mean of the picture's turns."""

    @property
    def runs(self) -> int:
        """How often the picture goes through the network."""
        return ENSEMBLE_RUNS if self.ensemble else 1

    def by_rows(self, model: ModelInfo) -> bool:
        """Whether rows of the answer can leave while later ones are still to be made."""
        return self.formats[0].name == "png" and self.scale in (None, model.scale) and not self.colour_lock


DEFAULTS = Wanted()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An upscaled picture on its way out."""

    pieces: AsyncGenerator[bytes, None]
    """Its file, as it gets ready; what is not taken holds up the device, and nobody else's picture."""
    format: AnswerFormat
    model: ModelInfo
    frames: int
    """Pictures in the upload, of which this is the first."""
    timings_s: Callable[[], Mapping[str, float]]
    """What each stage has taken so far."""


class DeviceState(Protocol):
    """State of the device for metrics. Read on the event loop."""

    @property
    def rescues(self) -> Mapping[str, Mapping[str, int]]:
        """Count retried work since the start, by model and reason (`out_of_memory`, `float32`)."""

    def memory_bytes(self) -> Mapping[str, int]:
        """Return the memory of the device by kind; empty where it has no memory of its own."""


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
        self._limits = Limits.of(settings)
        prepare_decoders()
        self._codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")

    @asynccontextmanager
    async def upscale(
        self, upload: bytes, network: Network, wanted: Wanted = DEFAULTS, *, deadline_s: float | None = None
    ) -> AsyncIterator[Answer]:
        """Decode, upscale and encode one upload. Leaving the block withdraws what is not done of it from the device.

        A place in the queue is taken by what the header tells; without one, nothing is decoded.

        Args:
            network: on lease until the block is left.
            deadline_s: on the clock of `time.monotonic`; after it nothing more is done.

        Raises:
            ServiceError: see `app.errors`; from the answer's pieces, too.
        """
        current_record().model = network.info.name
        header = await in_thread(self._headers, functools.partial(read_header, upload, self._limits))
        if wanted.ensemble:
            self._check_turned(max(header.height, header.width))
        expected = self._work(None, network.info, (header.planes, header.height, header.width), deadline_s, wanted.runs)
        with self.scheduler.reserve(expected) as place:
            by_rows = expected.bucket is None and wanted.by_rows(network.info)
            size_bytes = memory_bytes(header, network.info.scale, by_rows=by_rows, ensemble=wanted.ensemble)
            async with (
                self.pictures.room(size_bytes),
                self._upscale(upload, network, wanted, deadline_s, place) as answer,
            ):
                yield answer

    @asynccontextmanager
    async def _upscale(
        self, upload: bytes, network: Network, wanted: Wanted, deadline_s: float | None, place: Place
    ) -> AsyncIterator[Answer]:
        record, model = current_record(), network.info
        picture, decode_s = await self._in_codec_thread(
            functools.partial(decode, upload, self._limits, wanted.metadata)
        )
        record.took("decode", decode_s)
        record.width_px, record.height_px, record.runs = picture.width, picture.height, wanted.runs
        height, width = (scaled_px(side, wanted.scale or model.scale) for side in (picture.height, picture.width))
        form = chosen_format(wanted.formats, picture, height=height, width=width)
        layout = layout_of(picture, form, height=height, width=width)
        finish = Finish(picture, model.scale, layout, colour_lock=wanted.colour_lock)
        submitted_s = time.monotonic()
        job = Job(network=network, planes=picture.planes, ensemble=wanted.ensemble)
        shape = (len(picture.planes), picture.height, picture.width)
        work = self._work(job, model, shape, deadline_s, wanted.runs)
        async with self.scheduler.submit(work, place) as ticket:
            waiting, working = _Timer(), _Timer()
            rows = self._finished(waiting.of(ticket), finish)
            pieces = working.of(encoded(rows, layout, form, self._codecs, quality=wanted.quality))

            def timings_s() -> Mapping[str, float]:
                encode_s = working.seconds - waiting.seconds
                return {"decode": decode_s, "queue": ticket.queue_s, "infer": ticket.infer_s, "encode": encode_s}

            try:
                async with aclosing(pieces):
                    yield Answer(pieces=pieces, format=form, model=model, frames=picture.frames, timings_s=timings_s)
            finally:
                queue_s = ticket.queue_s if ticket.infer_s else time.monotonic() - submitted_s  # it may still wait
                record.took("queue", queue_s, began_s=submitted_s)
                record.took("infer", ticket.infer_s, began_s=submitted_s + queue_s)
                encode_s = working.seconds - waiting.seconds
                record.took("encode", encode_s, began_s=working.ended_s - encode_s)

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

    def _check_turned(self, side_px: int) -> None:
        if side_px > self.settings.max_width_px:
            raise TooLarge(
                f"its longer side has {side_px} px; with ensemble, which turns it, the limit is "
                f"{self.settings.max_width_px} px; leave ensemble out or send parts of it"
            )

    def _work(
        self, job: Planned, model: ModelInfo, shape: tuple[int, int, int], deadline_s: float | None, runs: int = 1
    ) -> Work[Planned]:
        """The work of a job, or of one of which only (planes, height, width) are known.

        Args:
            runs: see `Wanted.runs`.
        """
        planes, height, width = shape
        px = runs * planes * height * width
        work = functools.partial(Work, input=job, kind=model.version, deadline_s=deadline_s)
        if runs * height * width > (self.settings.whole_picture_px or model.whole_picture_px):
            row_px = planes * (width if runs == 1 else max(height, width))  # half of the turns lie on their sides
            held_bytes = row_px * model.state_bytes_per_column
            return work(cost_px=px, row_px=row_px, least_rows=min(LEAST_BAND_ROWS, height), held_bytes=held_bytes)
        if model.device == "cpu":  # it groups pictures of one size by itself and pads nothing
            return work(cost_px=max(px, runs * LEAST_COST_PX), bucket=("small", runs))
        sides: tuple[int, ...] = tuple(-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (height, width))
        padded_px = runs * planes * sides[0] * sides[1]
        return work(cost_px=padded_px, bucket=(*sides, runs), padding_px=padded_px - px)

    async def _in_codec_thread(self, call: Callable[[], Result]) -> tuple[Result, float]:
        def timed() -> tuple[Result, float]:
            began_s = time.perf_counter()
            return call(), time.perf_counter() - began_s

        return await asyncio.get_running_loop().run_in_executor(self._codecs, timed)


def scaled_px(side_px: int, scale: float) -> int:
    """A side of an answer. Halves are rounded up, as JavaScript's Math.round does, so that callers can predict it."""
    return math.floor(side_px * scale + 0.5)


def memory_bytes(header: Header, scale: int, *, by_rows: bool = False, ensemble: bool = False) -> int:
    """Memory that a picture takes at most: while it is decoded, or then, upscaled and as the bytes of the answer.

    Args:
        by_rows: the answer leaves while it is made, and is never there as a whole.
        ensemble: there are the sum of all turns, in 32 bits, and the upload upright and turned, in 16.
    """
    samples = 3 * header.planes * header.height * header.width
    turns_bytes = samples * (4 * scale**2 + 2 * 2) if ensemble else 0
    copies = DECODING_COPIES if by_rows else 1 + 2 * scale**2
    return math.ceil(samples * header.bits // 8 * copies) + turns_bytes


class _Timer:
    """How long iterators take for what they give; what is done with it in between does not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ended_s = time.monotonic()
        """When the last item came."""

    async def of(self, items: AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
        """The same items."""
        iterator = aiter(items)
        while True:
            began_s = time.monotonic()
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self.ended_s = time.monotonic()
                self.seconds += self.ended_s - began_s
            yield item
