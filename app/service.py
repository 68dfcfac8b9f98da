"""Upscale one picture: header, memory, decode, schedule, encode. Imports neither HTTP nor torch."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import Executor
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from app.admission import PictureMemory, PictureReservation, UploadMemory
from app.answer import Answer
from app.batching.backlog import Reservation
from app.batching.job import Job
from app.batching.scheduler import Scheduler
from app.batching.ticket import Ticket
from app.errors import NoSuchModel, TooLarge, Unprocessable
from app.library.library import Library
from app.library.network import Edges, ModelInfo, Network
from app.options import DEFAULT_OPTIONS, UpscaleOptions
from app.pictures.decode import Header, decode, prepare_decoders, read_header
from app.pictures.encode import encoded
from app.pictures.layout import Layout
from app.pictures.limits import limits_of
from app.pictures.picture import SLICE_ROWS, Picture, Pixels
from app.pictures.postprocess import Postprocessor, postprocessed
from app.pools import PicturePools, Pools
from app.record import current_record
from app.settings import Settings
from app.sizing import NO_DEADLINE, Plan, Urgency, check_edges, decoding_bytes
from app.stopwatch import Stopwatch
from app.threads import in_thread
from app.work import Work


@dataclass(frozen=True, kw_only=True)
class UpscaleInput:
    """A picture's planes (N, H, W, 3) and the network that upscales them: the engine's input."""

    network: Network
    planes: Pixels
    passes: int = 1
    """Runs of the network, each on the result of the one before."""
    ensemble: bool = False
    """Return the mean over all turns of the picture."""
    edges: Edges = "auto"


@dataclass(frozen=True, kw_only=True)
class Room:
    """The room for the work on an upload."""

    reservation: Reservation | None
    """Place in the queue; None where no network has work."""
    memory: PictureReservation
    pools: PicturePools
    """Threads that keep the memory until their calls have ended."""


class DeviceState(Protocol):
    """State of the device for metrics. Read on the event loop."""

    @property
    def retries(self) -> Mapping[str, Mapping[str, int]]:
        """Count retried work since the start, by model and reason (`out_of_memory`, `float32`)."""

    def memory_bytes(self) -> Mapping[str, int]:
        """Return the memory of the device by kind; empty if it has no memory of its own."""


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
        self.limits = limits_of(settings)
        self.pools = Pools(settings.codec_threads)
        prepare_decoders()

    async def read_header(self, upload: bytes) -> Header:
        """Read the header of an upload; needs no network, so refusals come before one is loaded.

        Raises:
            ServiceError: the upload is not a picture, or exceeds a limit.
        """
        return await self.pools.header(partial(read_header, upload, self.limits))

    @asynccontextmanager
    async def upscale(
        self,
        upload: bytes,
        header: Header,
        network: Network,
        options: UpscaleOptions = DEFAULT_OPTIONS,
        urgency: Urgency = NO_DEADLINE,
    ) -> AsyncIterator[Answer]:
        """Decode, upscale and encode one upload. Leaving the block cancels work that is not done yet.

        A place in the queue is reserved from the header alone; the picture is not decoded unless there is one.

        Args:
            header: of the upload; see `read_header`.
            network: leased until the block is left.

        Raises:
            ServiceError: see `app.errors`; also raised while the answer's pieces are read.
        """
        current_record().model = network.info.name
        work = self.work(header, network.info, options, urgency)
        work, later_bytes = work.fitted(header, self.settings.max_picture_memory_bytes)
        memory_bytes = max(decoding_bytes(work.options.held(header)), later_bytes)
        async with self.room(work, header, memory_bytes) as room:
            stopwatch = Stopwatch()
            picture = await self._decoded(upload, header, work.options, room.pools, stopwatch)
            work = replace(work, plan=self.plan(picture, work.model, work.options))  # of the upright picture
            picture = await as_seen(picture, work, room.pools.codecs)
            room.memory.keep(later_bytes)
            async with self._upscaled(picture, header, network, work, room, stopwatch) as answer:
                yield answer

    @asynccontextmanager
    async def room(self, work: Work, header: Header, memory_bytes: int, *, frames: int = 1) -> AsyncIterator[Room]:
        """Reserve a place in the queue where the network has work, then wait for memory.

        Args:
            header: of a picture as it will be in memory.
            frames: number of pictures of this size.

        Raises:
            QueueFull: too much is queued, or waits for memory.
            Unavailable: the service is stopping.
        """
        background = work.urgency.background
        pictures = self.background_pictures if background else self.pictures
        with ExitStack() as reserved:
            reservation = None
            if work.plan.passes:
                expected = work.job(None, (header.planes, header.height, header.width))
                all_frames = replace(expected, cost_px=frames * expected.cost_px)
                reservation = reserved.enter_context(self.scheduler.reserve(all_frames))
            elif not background:
                pictures.check_line()
            async with pictures.reserve(memory_bytes) as memory:
                yield Room(reservation=reservation, memory=memory, pools=self.pools.of(memory, background=background))

    def plan(self, picture: Header | Picture, model: ModelInfo, options: UpscaleOptions) -> Plan:
        """Plan how a picture gets the size that its caller asks for.

        Raises:
            Unprocessable: the size is too far from the picture's.
            TooLarge: the answer, or what the network would have to read, exceeds a limit.
        """
        check_edges(options.edges, (picture.height, picture.width), model)
        plan = Plan.of(options.size, (picture.height, picture.width), model, self.settings)
        side_px = max(picture.height, picture.width) * plan.last_pass_factor
        if options.ensemble and plan.passes and side_px > self.settings.max_width_px:
            raise TooLarge(
                f"the longer side of the picture has {side_px} px; with ensemble, which turns it, the limit is "
                f"{self.settings.max_width_px} px; leave ensemble out or send parts of it"
            )
        return plan

    def work(self, header: Header, model: ModelInfo, options: UpscaleOptions, urgency: Urgency = NO_DEADLINE) -> Work:
        """Plan the work on an upload.

        Raises:
            Unprocessable: no format has what the options ask for, or allows the answer's size; or see `plan`.
            TooLarge: see `plan`.
        """
        options = options.of_upload(header)
        plan = self.plan(header, model, options)
        return Work(
            model=model,
            plan=plan,
            options=options.of_size(plan.height, plan.width),
            urgency=urgency,
            whole_picture_px=self.settings.whole_picture_px,
        )

    async def _decoded(
        self, upload: bytes, header: Header, options: UpscaleOptions, pools: PicturePools, stopwatch: Stopwatch
    ) -> Picture:
        picture = await stopwatch.decode(pools.codecs, partial(decode, upload, self.limits, options.metadata))
        if options.frames == "all" and picture.frames > 1:
            raise Unprocessable(
                f"frames=all is for GIF, WebP and PNG; this is a {header.format} file of {picture.frames} pictures; "
                "ask for frames=first"
            )
        if (options.bits or 8) > 8:
            return await in_thread(pools.codecs, picture.deepened)
        return picture

    @asynccontextmanager
    async def _upscaled(
        self,
        picture: Picture,
        header: Header,
        network: Network,
        work: Work,
        room: Room,
        stopwatch: Stopwatch,
    ) -> AsyncIterator[Answer]:
        options, plan = work.options, work.plan
        note_work(picture, work)
        layout = work.layout(picture)
        async with AsyncExitStack() as scope:
            stopwatch.submitted()
            upscaled, progress = rows_of(picture.planes), partial(float, 1)
            if plan.passes:
                job = job_for(picture, network, work)
                ticket = await scope.enter_async_context(self.scheduler.submit(job, room.reservation))
                upscaled, progress = stopwatch.rows(ticket), partial(_progress, ticket)
            rows = self.rows(upscaled, picture, work, layout, room.pools.codecs)
            pieces = stopwatch.file(encoded(rows, layout, room.pools.encoder(layout.format)))
            try:
                async with aclosing(pieces):
                    yield Answer(
                        pieces=pieces,
                        format=layout.format,
                        model=work.model,
                        width=plan.width,
                        height=plan.height,
                        frames=picture.frames,
                        left_out=layout.left_out,
                        upload_format=options.other_format(header, layout.format),
                        timings_s=stopwatch.timings_s,
                        progress=progress,
                    )
            finally:
                stopwatch.stop()

    def rows(
        self, upscaled: AsyncIterator[Pixels], picture: Picture, work: Work, layout: Layout, codecs: Executor
    ) -> AsyncGenerator[Pixels, None]:
        """Turn the rows of upscaled planes into those of the answer."""
        lock, wraps = work.options.colour_lock and work.plan.passes > 0, work.options.edges == "wrap"
        make = partial(Postprocessor, picture, work.plan.factor, layout, colour_lock=lock, wraps=wraps)
        return postprocessed(upscaled, make, codecs)

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
        self.pools.close()


async def as_seen(picture: Picture, work: Work, codecs: Executor) -> Picture:
    """Return a picture as the network sees it."""
    if not (picture.transparent and work.plan.passes):
        return picture
    return await in_thread(codecs, partial(picture.as_seen, wraps=work.options.edges == "wrap"))


def job_for(picture: Picture, network: Network, work: Work) -> Job[UpscaleInput]:
    """Make the scheduler's job for a picture."""
    inputs = UpscaleInput(
        network=network,
        planes=picture.planes,
        passes=work.plan.passes,
        edges=work.options.edges,
        ensemble=work.options.ensemble,
    )
    planes, height, width, _ = picture.planes.shape
    return work.job(inputs, (planes, height, width))


def note_work(picture: Picture, work: Work, *, pictures: int = 1) -> None:
    """Note in the request's record the size of its picture, or of each of several, and the passes of the network."""
    record = current_record()
    record.width_px, record.height_px = picture.width, picture.height
    record.network_passes = work.options.ensemble_size * max(1, work.plan.work) * pictures


def _progress(ticket: Ticket[Pixels]) -> float:
    return ticket.done_px / ticket.cost_px


async def rows_of(planes: Pixels) -> AsyncGenerator[Pixels, None]:
    """Yield the rows of planes."""
    for top in range(0, planes.shape[1], SLICE_ROWS):
        yield planes[:, top : top + SLICE_ROWS]
