"""Joins the parts: settings, library, networks, scheduler, service. The only place where app meets model."""

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
import torch

from app.batching.scheduler import Scheduler
from app.errors import Unavailable
from app.library.files import Folder, shown
from app.library.library import Library, NoModelError
from app.library.loading import LoadError, Loading, UnreadableError
from app.library.network import ModelInfo, Network
from app.pictures.compiled import load_compiled
from app.pictures.picture import Pixels
from app.service import Job, UpscaleService
from app.settings import Settings, SettingsError
from model.checkpoint import FORMAT
from model.device import FORMATS, DeviceMemoryError, best_device, memory_bytes, release_memory, use_physical_cores
from model.ensemble import ensemble_batch, ensemble_stream
from model.errors import UnreadableError as UnreadableFileError
from model.errors import WeightsError
from model.gate import refuse_far_from_bicubic
from model.interpolation import InterpolationError, blended
from model.reading import SUFFIXES, AnyCheckpoint, read_any
from model.reliable import ReliableUpscaler, SelfTestError
from model.upscaler import SuspiciousOutputError

PREFERRED = ("compact-real-psnr-x4", "compact-psnr-x4")
"""Shipped models, the best for real uploads first: requests that name no model get that one.

They invent nothing; a caller who wants invented texture names a model of the GAN stage.
"""

MEMORY_RETRY_S = 30
"""When a picture that did not fit into memory may be tried again: by then other pictures have left it."""

WIDE_PX = 4096
"""Width at which the memory of a stream is measured: the padding left and right hardly counts."""

LEAST_WARM_UP_PX = 32
"""Side of the first picture that warms a network up; each further one has twice the side."""

LETTING_GO_S = 1.0
"""By then nobody holds a network any more that has just left the library."""


class DeviceEngine:
    """The scheduler's engine. Each job brings its network along."""

    def most_px(self, work: Job) -> int:
        """Most LR px of a piece: what suits the device, less after the job's network ran out of memory."""
        return work.network.upscaler.most_px

    def batch(self, inputs: Sequence[Job]) -> Sequence[Pixels]:
        """Upscale jobs of one network, whole and together; all of them as ensembles, or none.

        Raises:
            Unavailable: the device's memory does not suffice for one of them, however it is cut.
        """
        with _told_to_the_caller():
            upscaler, pictures = inputs[0].network.upscaler, [job.planes for job in inputs]
            return ensemble_batch(upscaler, pictures) if inputs[0].ensemble else upscaler.batch(pictures)

    def stream(self, work: Job, band_px: int) -> Generator[Pixels | None]:
        """Upscale one job in bands.

        Raises:
            Unavailable: the device's memory does not suffice, not even for one row at a time.
        """
        upscaler, (planes, _, width, _) = work.network.upscaler, work.planes.shape
        with _told_to_the_caller():
            if work.ensemble:
                bands = ensemble_stream(upscaler, work.planes, scale=work.network.info.scale, band_px=band_px)
            else:
                bands = upscaler.stream(work.planes, max(1, band_px // (planes * width)))
            for rows in bands:
                yield rows if rows.shape[1] else None


@dataclass(frozen=True, kw_only=True)
class Device:
    """See `app.telemetry.device`."""

    rescues: dict[str, Counter[str]]

    def memory_bytes(self) -> Mapping[str, int]:
        """Memory of the GPU, by kind."""
        return memory_bytes(best_device())


@contextmanager
def _told_to_the_caller() -> Iterator[None]:
    try:
        yield
    except DeviceMemoryError as error:
        raise Unavailable(
            "the device has not enough memory for this picture at the moment; send a smaller one, or this one later",
            retry_after_s=MEMORY_RETRY_S,
        ) from error


class NetworkLoader:
    """The library's loader: from a weight file to a network that has passed its tests and is warm.

    Args:
        piece_s: how long a warm-up may take at a time.
        max_loss_db: how far a network whose file brings no golden picture may stay behind bicubic.
        rescues: how often each model's work was done again; counted there from one of its networks to the next.
        dtype: the number format that networks compute in, by default the fastest.
    """

    def __init__(
        self,
        *,
        piece_s: float,
        max_loss_db: float,
        rescues: dict[str, Counter[str]],
        dtype: torch.dtype | None = None,
    ) -> None:
        self._piece_s = piece_s
        self._max_loss_db = max_loss_db
        self._rescues = rescues
        self._dtype = dtype

    def file(self, name: str, path: Path) -> Loading:
        """See `app.library.loading.Loader`."""
        with _refused(path):
            checkpoint = read_any(path)
            yield
            return (yield from self._network(name, checkpoint))

    def blend(self, name: str, psnr: Network, gan: Network, *, alpha: float) -> Loading:
        """See `app.library.loading.Loader`."""
        assert isinstance(psnr.upscaler, ReliableUpscaler)
        assert isinstance(gan.upscaler, ReliableUpscaler)
        with _refused():
            checkpoint = blended(psnr.upscaler.source(), gan.upscaler.source(), alpha)
            yield
            return (yield from self._network(name, checkpoint))

    def _network(self, name: str, checkpoint: AnyCheckpoint) -> Loading:
        upscaler = ReliableUpscaler(checkpoint, dtype=self._dtype)
        upscaler.rescues = self._rescues.setdefault(name, upscaler.rescues)
        yield
        if checkpoint.format != FORMAT:  # nobody vouches for it
            refuse_far_from_bicubic(upscaler, self._max_loss_db)
            yield
        speed = yield from self._warm_up(upscaler)
        return Network(info=_info(name, upscaler, checkpoint), upscaler=upscaler, speed=speed)

    def _warm_up(self, upscaler: ReliableUpscaler) -> Generator[None, None, Sequence[tuple[int, float]]]:
        """Run ever larger pictures, so that the first caller finds all prepared, and its pieces are well cut."""
        speed: list[tuple[int, float]] = []
        side, seconds = min(LEAST_WARM_UP_PX, math.isqrt(upscaler.most_px)), 0.0
        while side**2 <= upscaler.most_px and seconds < self._piece_s / 2:
            picture = numpy.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=numpy.uint8)
            upscaler.batch([picture])  # the very first run prepares much that later ones find ready
            yield
            began_s = time.perf_counter()
            upscaler.batch([picture])
            seconds = time.perf_counter() - began_s
            speed.append((side**2, seconds))
            yield
            side *= 2
        return speed


@contextmanager
def _refused(path: Path | None = None) -> Iterator[None]:
    """Say what is wrong with a weight file, without the path to it: callers may read that."""
    try:
        yield
    except UnreadableFileError as error:
        raise UnreadableError(_public(error, path)) from error
    except (WeightsError, InterpolationError, SelfTestError, DeviceMemoryError, SuspiciousOutputError) as error:
        raise LoadError(_public(error, path)) from error


def _public(error: Exception, path: Path | None) -> str:
    """The text of an error with the names of files only, and in UTF-8, whatever their names are."""
    text = str(error)
    if path is not None:
        text = text.replace(f"{path.parent}{os.sep}", "")
    return shown(" ".join(text.split()))


def build_service(settings: Settings) -> UpscaleService:
    """Load and test the networks of the models folder and put the service together.

    Raises:
        SettingsError: the folder holds no weight file that can serve, or not the default model.
    """
    use_physical_cores()
    load_compiled()
    scheduler: Scheduler[Job, Pixels] = Scheduler(
        DeviceEngine(),
        max_queued_px=settings.max_queued_px,
        max_held_bytes=settings.max_stream_bytes,
        piece_s=settings.piece_s,
    )
    device = Device(rescues={})

    def learn_speed(network: Network) -> None:
        for px, seconds in network.speed:
            scheduler.costs.observe((network.info.version,), px, seconds)

    library = Library(
        Folder(settings.models, SUFFIXES),
        NetworkLoader(
            piece_s=settings.piece_s,
            max_loss_db=settings.max_loss_db,
            rescues=device.rescues,
            dtype=FORMATS.get(settings.precision),
        ),
        on_device=scheduler.between_pieces,
        ready=learn_speed,
        freed=partial(_give_memory_back, scheduler),
        max_bytes=settings.max_model_bytes,
    )
    try:
        library.open(
            default=settings.default_model,
            preferred=PREFERRED,
            lazily=settings.load == "lazy",
        )
    except NoModelError as error:
        raise SettingsError(f"ESRGAN_MODELS and ESRGAN_DEFAULT_MODEL: {error}") from error
    return UpscaleService(settings, library, scheduler, device)


async def _give_memory_back(scheduler: Scheduler[Job, Pixels]) -> None:
    """What a network has left behind goes back to the system, once nobody holds it any more."""
    await asyncio.sleep(LETTING_GO_S)
    with suppress(RuntimeError):  # the service has stopped meanwhile
        await scheduler.between_pieces(partial(release_memory, best_device()))


def _info(name: str, upscaler: ReliableUpscaler, checkpoint: AnyCheckpoint) -> ModelInfo:
    return ModelInfo(
        name=name,
        sha256=checkpoint.sha256,
        scale=upscaler.scale,
        device=upscaler.device.type,
        precision=str(upscaler.dtype).removeprefix("torch."),
        licence=checkpoint.card.licence,
        metrics=checkpoint.card.metrics,
        whole_picture_px=upscaler.most_px,
        state_bytes_per_column=upscaler.state_bytes(planes=1, width=WIDE_PX) // WIDE_PX,
    )
