"""The way of a picture: header, memory, decode, schedule, encode. Imports neither HTTP nor torch."""

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from app.admission import PictureMemory, UploadMemory
from app.batching.backlog import Reservation
from app.batching.job import Job
from app.batching.scheduler import Scheduler
from app.errors import NoSuchModel, TooLarge
from app.library.library import Library
from app.library.network import Edges, ModelInfo, Network
from app.pictures.decode import Header, decode, prepare_decoders, read_header
from app.pictures.encode import FORMATS, AnswerFormat, chosen_format, encoded, layout_of
from app.pictures.limits import Limits
from app.pictures.metadata import MetadataRule
from app.pictures.picture import Picture, Pixels
from app.pictures.postprocess import Postprocessor
from app.record import current_record
from app.settings import Settings
from app.sizing import check_edges, job_of, memory_bytes, scaled_px
from app.stopwatch import Stopwatch
from app.threads import in_thread

ENSEMBLE_RUNS = 8
"""Passes of an ensemble through the network: four rotations, each also mirrored."""

Input = TypeVar("Input")


@dataclass(frozen=True, kw_only=True)
class UpscaleInput:
    """A picture's planes (N, H, W, 3) and the network that upscales them: the engine's input."""

    network: Network
    planes: Pixels
    ensemble: bool = False
    """Return the mean over all turns of the picture."""
    edges: Edges = "auto"


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """Options of one request, apart from the model."""

    scale: float | None = None
    """Factor of the answer, from 1 to the model's, which is the default."""
    formats: Sequence[AnswerFormat] = (FORMATS["png"],)
    """Accepted formats, the preferred one first; see `app.pictures.encode.chosen_format`."""
    quality: int | None = None
    """From 1 to 100; see `app.pictures.encode.encoded`."""
    metadata: MetadataRule = "keep"
    colour_lock: bool = False
    """Keep the low frequencies of the upload."""
    ensemble: bool = False
    """Return the mean over the picture's turns."""
    edges: Edges = "auto"
    """See `app.library.network.Edges`."""

    @property
    def runs(self) -> int:
        """Passes of the picture through the network."""
        return ENSEMBLE_RUNS if self.ensemble else 1

    def by_rows(self, model: ModelInfo) -> bool:
        """Return True where rows of the answer can be sent before the last row has been computed."""
        return self.formats[0].name == "png" and self.scale in (None, model.scale) and not self.colour_lock


DEFAULT_OPTIONS = UpscaleOptions()


@dataclass(frozen=True, kw_only=True)
class Urgency:
    """Deadline and priority of a picture."""

    deadline_s: float | None
    """On the clock of `time.monotonic`."""
    background: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An upscaled picture that is being sent."""

    pieces: AsyncGenerator[bytes, None]
    """The encoded file, in chunks. Not reading them pauses this picture only."""
    format: AnswerFormat
    model: ModelInfo
    frames: int
    """Pictures in the upload; the answer is the first of them."""
    timings_s: Callable[[], Mapping[str, float]]
    """Return the seconds of each stage so far."""
    progress: Callable[[], float]
    """Return the share of the picture that has been through the network, from 0 to 1."""


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
        self, settings: Settings, library: Library, scheduler: Scheduler[UpscaleInput, Pixels], device: DeviceState
    ) -> None:
        self.settings = settings
        self.library = library
        self.scheduler = scheduler
        self.device = device
        self.uploads = UploadMemory(
            max(settings.max_upload_memory_bytes, settings.max_upload_bytes), lambda: scheduler.backlog_s
        )
        self.pictures = PictureMemory(settings.max_picture_memory_bytes)
        self.background_pictures = PictureMemory(settings.max_picture_memory_bytes // 2)
        self._limits = Limits.of(settings)
        # Headers have a thread of their own, so that a refusal does not wait for a picture that is being decoded.
        self._headers = ThreadPoolExecutor(1, thread_name_prefix="header")
        prepare_decoders()
        self._codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")
        self._background_codecs = ThreadPoolExecutor(1, thread_name_prefix="background")

    async def read_header(self, upload: bytes) -> Header:
        """Read the header of an upload; needs no network, so refusals come before one is loaded.

        Raises:
            ServiceError: the upload is not a picture, or exceeds a limit.
        """
        return await in_thread(self._headers, functools.partial(read_header, upload, self._limits))

    @asynccontextmanager
    async def upscale(
        self,
        upload: bytes,
        header: Header,
        network: Network,
        options: UpscaleOptions = DEFAULT_OPTIONS,
        *,
        deadline_s: float | None = None,
        background: bool = False,
    ) -> AsyncIterator[Answer]:
        """Decode, upscale and encode one upload. Leaving the block cancels work that is not done yet.

        A place in the queue is reserved from the header alone; the picture is not decoded unless there is one.

        Args:
            header: of the upload; see `read_header`.
            network: leased until the block is left.
            deadline_s: on the clock of `time.monotonic`; work is cancelled when it passes.
            background: nobody waits for the answer, so memory, threads and device go to others first.

        Raises:
            ServiceError: see `app.errors`; also raised while the answer's pieces are read.
        """
        current_record().model = network.info.name
        check_edges(options.edges, (header.height, header.width), network.info)
        if options.ensemble:
            self._check_turned(max(header.height, header.width))
        urgency = Urgency(deadline_s=deadline_s, background=background)
        pictures = self.background_pictures if background else self.pictures
        expected = self._job(None, network.info, (header.planes, header.height, header.width), options, urgency)
        with self.scheduler.reserve(expected) as reservation:
            by_rows = expected.bucket is None and options.by_rows(network.info)
            size_bytes = memory_bytes(header, network.info.scale, by_rows=by_rows, ensemble=options.ensemble)
            async with (
                pictures.reserve(size_bytes),
                self._upscale(upload, network, options, urgency, reservation) as answer,
            ):
                yield answer

    @asynccontextmanager
    async def _upscale(
        self,
        upload: bytes,
        network: Network,
        options: UpscaleOptions,
        urgency: Urgency,
        reservation: Reservation,
    ) -> AsyncIterator[Answer]:
        stopwatch, model = Stopwatch(), network.info
        codecs = self._background_codecs if urgency.background else self._codecs
        picture = await self._decode(upload, options, stopwatch, codecs)
        height, width = (scaled_px(side, options.scale or model.scale) for side in (picture.height, picture.width))
        form = chosen_format(options.formats, picture, height=height, width=width)
        layout = layout_of(picture, form, height=height, width=width)
        postprocessor = Postprocessor(
            picture, model.scale, layout, colour_lock=options.colour_lock, wraps=options.edges == "wrap"
        )
        inputs = UpscaleInput(network=network, planes=picture.planes, ensemble=options.ensemble, edges=options.edges)
        job = self._job(inputs, model, picture.planes.shape[:3], options, urgency)
        stopwatch.submitted()
        async with self.scheduler.submit(job, reservation) as ticket:
            rows = _postprocessed(stopwatch.rows(ticket), postprocessor, codecs)
            pieces = stopwatch.file(encoded(rows, layout, form, codecs, quality=options.quality))
            try:
                async with aclosing(pieces):
                    yield Answer(
                        pieces=pieces,
                        format=form,
                        model=model,
                        frames=picture.frames,
                        timings_s=stopwatch.timings_s,
                        progress=lambda: ticket.done_px / ticket.cost_px,
                    )
            finally:
                stopwatch.stop()

    async def _decode(
        self, upload: bytes, options: UpscaleOptions, stopwatch: Stopwatch, codecs: ThreadPoolExecutor
    ) -> Picture:
        call = functools.partial(decode, upload, self._limits, options.metadata)
        picture = await stopwatch.decode(codecs, call)
        record = current_record()
        record.width_px, record.height_px, record.runs = picture.width, picture.height, options.runs
        return picture

    def predicted_s(self, model: str | None, px: int) -> float | None:
        """Return the predicted seconds for some LR px of a model; None while its speed is unknown."""
        with suppress(NoSuchModel):
            if (info := self.library.find(model).info) is not None:
                return self.scheduler.costs.drain_s((info.version, None), px, self.settings.piece_s)
        return None

    def start(self) -> None:
        """Start to run jobs and to watch the models folder."""
        self.scheduler.start()
        if self.settings.watch_s:
            self.library.watch(self.settings.watch_s)

    def close(self) -> None:
        """Cancel the library's background tasks and stop the codec threads after their current calls."""
        self.library.close()
        self._headers.shutdown(wait=False)
        self._codecs.shutdown(wait=False)
        self._background_codecs.shutdown(wait=False)

    def _check_turned(self, side_px: int) -> None:
        if side_px > self.settings.max_width_px:
            raise TooLarge(
                f"the longer side of the picture has {side_px} px; with ensemble, which turns it, the limit is "
                f"{self.settings.max_width_px} px; leave ensemble out or send parts of it"
            )

    def _job(
        self,
        inputs: Input,
        model: ModelInfo,
        shape: tuple[int, ...],
        options: UpscaleOptions,
        urgency: Urgency,
    ) -> Job[Input]:
        planes, height, width = shape
        return job_of(
            inputs,
            model,
            (planes, height, width),
            runs=options.runs,
            edges=options.edges,
            whole_picture_px=self.settings.whole_picture_px,
            deadline_s=urgency.deadline_s,
            background=urgency.background,
        )


async def _postprocessed(
    upscaled: AsyncIterator[Pixels], postprocessor: Postprocessor, codecs: ThreadPoolExecutor
) -> AsyncGenerator[Pixels, None]:
    async for planes in upscaled:
        if len(rows := await in_thread(codecs, functools.partial(postprocessor.rows, planes))):
            yield rows
    if len(rest := await in_thread(codecs, postprocessor.rest)):
        yield rest
