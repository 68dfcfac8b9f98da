"""Upscale animations: each different frame is scheduled like a small picture."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy

from app.answer import Answer
from app.batching.ticket import Ticket
from app.errors import TooLarge
from app.library.network import Network
from app.options import UpscaleOptions
from app.pictures.animated import UpscaledFrame, encoded_animation
from app.pictures.decode import Header
from app.pictures.frames import Animation, decode_animation
from app.pictures.layout import Layout
from app.pictures.picture import Picture, Pixels, max_level
from app.record import current_record
from app.service import Room, UpscaleService, as_seen, job_for, note_work, rows_of
from app.settings import Settings
from app.sizing import NO_DEADLINE, Plan, Urgency, decoding_bytes
from app.stopwatch import Stopwatch
from app.threads import in_thread
from app.work import Work, check_memory

MAX_IN_WORK = 16
IN_WORK_PX = 2**18
"""LR px of the frames of one animation that wait for the device or run: enough to fill batches, and few enough not to
hold up other requests."""

MAX_HELD_BYTES = 2**28
"""Maximum bytes of upscaled frames that are kept to be shown again; others are upscaled again."""


def is_animated(header: Header, options: UpscaleOptions) -> bool:
    """Return True if the answer is an animation."""
    return options.frames == "all" and header.frames > 1


def check_animation(header: Header, options: UpscaleOptions, settings: Settings) -> None:
    """Check that the frames of an animation together are not larger than a picture may be.

    Raises:
        TooLarge: they are.
    """
    px = header.frames * header.height * header.width
    if is_animated(header, options) and px > settings.max_picture_px:
        raise TooLarge(
            f"the animation has {header.frames} frames of {header.width} x {header.height} px = {px} px; the limit is "
            f"{settings.max_picture_px} px for all frames; send fewer or smaller ones, or ask for frames=first"
        )


def check_answer(service: UpscaleService, header: Header, work: Work) -> int:
    """Check the pixels and the memory of an animated answer against the limits.

    Returns:
        An upper bound on their memory in bytes.

    Raises:
        TooLarge: they exceed a limit.
    """
    plan, limit = work.plan, service.settings.answer_px_limit
    px = header.frames * plan.height * plan.width
    if px > limit:
        raise TooLarge(
            f"the answer would have {header.frames} frames of {plan.width} x {plan.height} px = {px} px; the limit is "
            f"{limit} px for all frames; ask for a smaller size, or for frames=first"
        )
    memory_bytes, max_bytes = _memory_bytes(header, work), service.settings.max_picture_memory_bytes
    check_memory(memory_bytes, max_bytes, "send smaller frames, or ask for frames=first")
    return memory_bytes


@asynccontextmanager
async def upscale_animation(
    service: UpscaleService,
    upload: bytes,
    header: Header,
    network: Network,
    options: UpscaleOptions,
    urgency: Urgency = NO_DEADLINE,
) -> AsyncIterator[Answer]:
    """Decode, upscale and encode an animation, as `UpscaleService.upscale` does with a picture.

    A place in the queue is reserved for all frames together.

    Raises:
        ServiceError: see `app.errors`; also raised while the answer's pieces are read.
    """
    current_record().model = network.info.name
    check_animation(header, options, service.settings)
    work = service.work(header, network.info, options, urgency)
    memory_bytes = check_answer(service, header, work)
    header = _in_memory(header, work.options)
    async with service.room(work, header, memory_bytes, frames=header.frames) as room:
        upscaling = _Upscaling(service, network, work, room, _Share.of(header, work.plan))
        async with upscaling.answer(upload, header) as answer:
            yield answer


@dataclass(frozen=True, kw_only=True)
class _Share:
    """Maximum frames in memory at a time: being upscaled, and kept."""

    in_work: int
    held: int
    """Frames that are kept to be shown again."""

    @classmethod
    def of(cls, header: Header, plan: Plan) -> "_Share":
        in_work = max(2, min(MAX_IN_WORK, IN_WORK_PX // (header.height * header.width), header.frames))
        return cls(in_work=in_work, held=min(header.frames, MAX_HELD_BYTES // _answer_bytes(header, plan)))


def _in_memory(header: Header, options: UpscaleOptions) -> Header:
    """Return the header of an animation as its frames are in memory: any of them may have alpha."""
    return replace(options.held(header), planes=2)


def _memory_bytes(header: Header, work: Work) -> int:
    header = _in_memory(header, work.options)
    share = _Share.of(header, work.plan)
    decoded_bytes = header.frames * 3 * header.planes * header.height * header.width
    frame_bytes = max(work.held_bytes(header, whole_answer=True), decoding_bytes(header))
    return decoded_bytes + share.in_work * frame_bytes + share.held * _answer_bytes(header, work.plan)


def _answer_bytes(header: Header, plan: Plan) -> int:
    return 4 * plan.height * plan.width * header.bits // 8


class _Upscaling:
    """The upscaling of one animation."""

    def __init__(self, service: UpscaleService, network: Network, work: Work, room: Room, share: _Share) -> None:
        self._service = service
        self._network = network
        self._work = work
        self._reservation = room.reservation
        self._pools = room.pools
        self._share = share
        self._shown = 0.0
        """Share of the frames that are finished."""
        self._times = _Times()

    @asynccontextmanager
    async def answer(self, upload: bytes, header: Header) -> AsyncIterator[Answer]:
        """Decode the animation and start to upscale it."""
        stopwatch, options = Stopwatch(), self._work.options
        call = partial(decode_animation, upload, self._service.limits, options.metadata)
        animation = await stopwatch.decode(self._pools.codecs, call)
        first = animation.first
        plan = self._service.plan(first, self._work.model, options)  # of the upright picture
        self._work = replace(self._work, plan=plan)
        layout = self._work.layout(first)
        note_work(first, self._work, pictures=len(animation.pictures))
        stopwatch.submitted()
        self._keep_room_for(animation)
        async with aclosing(self._frames(animation, layout)) as frames:
            file = encoded_animation(
                stopwatch.frames(frames, self._times),
                layout,
                self._pools.encoder(layout.format),
                count=len(animation.shown),
                plays=animation.plays,
            )
            async with aclosing(stopwatch.file(file)) as pieces:
                try:
                    yield Answer(
                        pieces=pieces,
                        format=layout.format,
                        model=self._work.model,
                        width=plan.width,
                        height=plan.height,
                        frames=header.frames,
                        shown=header.frames,
                        left_out=layout.left_out,
                        upload_format=options.other_format(header, layout.format),
                        timings_s=stopwatch.timings_s,
                        progress=lambda: self._shown,
                    )
                finally:
                    stopwatch.stop()

    def _keep_room_for(self, animation: Animation) -> None:
        """Release what was reserved for frames that are shown again, and for alpha that frames do not have."""
        if self._reservation is not None:
            jobs = (job_for(picture, self._network, self._work) for picture in animation.pictures)
            self._reservation.keep(sum(job.cost_px for job in jobs))

    async def _frames(self, animation: Animation, layout: Layout) -> AsyncGenerator[UpscaledFrame, None]:
        """Yield the frames in order, while later ones are being upscaled."""
        order = [shown.picture for shown in animation.shown]
        uses, tasks = Counter(order), dict[int, asyncio.Task[Pixels]]()
        try:
            for number, shown in enumerate(animation.shown):
                soon = order[number : number + self._share.in_work]
                for picture in soon:
                    if picture not in tasks:
                        tasks[picture] = asyncio.create_task(self._upscaled(animation.pictures[picture], layout))
                pixels = await tasks[shown.picture]
                self._shown = (number + 1) / len(order)
                yield UpscaledFrame(pixels=pixels, duration_ms=shown.duration_ms)
                uses[shown.picture] -= 1
                held = len(tasks.keys() - {*soon[1:]})
                if not uses[shown.picture] or (held > self._share.held and shown.picture not in soon[1:]):
                    del tasks[shown.picture]
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            if self._reservation is not None:
                self._reservation.release()

    async def _upscaled(self, picture: Picture, layout: Layout) -> Pixels:
        """Return the pixels of a frame (H, W, C)."""
        if layout.bits > 8:
            picture = await in_thread(self._pools.codecs, picture.deepened)
        picture = await as_seen(picture, self._work, self._pools.codecs)
        own_layout = replace(layout, transparent=picture.transparent)
        async with AsyncExitStack() as scope:
            upscaled: AsyncIterator[Pixels] = rows_of(picture.planes)
            if self._work.plan.passes:
                job = job_for(picture, self._network, self._work)
                part = self._reservation.split(job.cost_px) if self._reservation else None
                ticket = await scope.enter_async_context(self._service.scheduler.submit(job, part))
                upscaled = self._times.measured(ticket)
            rows = self._service.rows(upscaled, picture, self._work, own_layout, self._pools.codecs)
            pixels = await own_layout.whole(rows)
        if layout.transparent and not picture.transparent:
            opaque = numpy.full((*pixels.shape[:2], 1), max_level(pixels), pixels.dtype)
            return numpy.concatenate((pixels, opaque), axis=-1)
        return pixels


class _Times:
    """Times of the jobs of all frames together."""

    def __init__(self) -> None:
        self.queue_s = 0.0
        """Seconds until the first one began."""
        self.infer_s = 0.0
        """Seconds from then to the end of the last one."""
        self._submitted_s = time.monotonic()

    async def measured(self, ticket: Ticket[Pixels]) -> AsyncGenerator[Pixels, None]:
        """Iterate over the parts of one job."""
        submitted_s = time.monotonic() - self._submitted_s
        async for part in ticket:
            began_s = submitted_s + ticket.queue_s
            self.queue_s = began_s if not self.infer_s else min(self.queue_s, began_s)
            self.infer_s = max(self.infer_s, began_s + ticket.infer_s - self.queue_s)
            yield part
