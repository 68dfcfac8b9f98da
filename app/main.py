"""Joins the parts: settings, networks, scheduler, service. The only place where app meets model."""

import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy

from app.batching.cost import CostModel
from app.batching.scheduler import Scheduler
from app.errors import Unavailable
from app.pictures.picture import Pixels
from app.service import Job, ModelInfo, UpscaleService
from app.settings import Settings, SettingsError
from model.checkpoint import Checkpoint
from model.device import DeviceMemoryError, use_physical_cores
from model.reliable import ReliableUpscaler, load

PREFERRED = {"cuda": ("rrdb-psnr-x4", "compact-psnr-x4"), "cpu": ("compact-psnr-x4",)}
"""Shipped models by device, the best that it runs well first: requests that name no model get that one.

They are those that invent nothing; who wants invented texture names a model of the GAN stage.
"""

MEMORY_RETRY_S = 30
"""When a picture that did not fit into memory may be tried again: by then other pictures have left it."""

log = logging.getLogger(__name__)


class DeviceEngine:
    """The scheduler's engine: the networks that are loaded, by name."""

    def __init__(self, upscalers: Mapping[str, ReliableUpscaler]) -> None:
        self._upscalers = upscalers

    @property
    def most_px(self) -> int:
        """Most LR px that a piece may have: what suits the device, less after one of the networks ran out of memory."""
        return min(upscaler.most_px for upscaler in self._upscalers.values())

    def batch(self, inputs: Sequence[Job]) -> Sequence[Pixels]:
        """Upscale jobs of one model, whole and together.

        Raises:
            Unavailable: the device's memory does not suffice for one of them, however it is cut.
        """
        with _told_to_the_caller():
            return self._upscalers[inputs[0].model].batch([job.planes for job in inputs])

    def stream(self, work: Job, band_px: int) -> Generator[Pixels | None]:
        """Upscale one job in bands.

        Raises:
            Unavailable: the device's memory does not suffice, not even for one row at a time.
        """
        planes, _, width, _ = work.planes.shape
        with _told_to_the_caller():
            for rows in self._upscalers[work.model].stream(work.planes, max(1, band_px // (planes * width))):
                yield rows if rows.shape[1] else None


@contextmanager
def _told_to_the_caller() -> Iterator[None]:
    try:
        yield
    except DeviceMemoryError as error:
        raise Unavailable(
            "the device has not enough memory for this picture at the moment; send a smaller one, or this one later",
            retry_after_s=MEMORY_RETRY_S,
        ) from error


def build_service(settings: Settings) -> UpscaleService:
    """Load and test every network of the models folder and put the service together.

    Raises:
        SettingsError: the folder holds no weight files, or not the default model.
        WeightsError: a file cannot be used.
        SelfTestError: a network does not work on this device.
    """
    use_physical_cores()
    upscalers: dict[str, ReliableUpscaler] = {}
    models: dict[str, ModelInfo] = {}
    for path in _weight_files(settings.models):
        upscaler, checkpoint = load(path)
        name = checkpoint.card.name
        if name in models:
            raise SettingsError(f"{path} holds a second model named {name!r}; remove or rename one of the two")
        upscalers[name], models[name] = upscaler, _info(upscaler, checkpoint)
        log.info("%s is ready on %s in %s", models[name].version, models[name].device, models[name].precision)
    settings = settings.model_copy(update={"default_model": _default_model(settings, models)})
    scheduler: Scheduler[Job, Pixels] = Scheduler(
        DeviceEngine(upscalers),
        max_queued_px=settings.max_queued_px,
        max_held_bytes=settings.max_stream_bytes,
        piece_s=settings.piece_s,
    )
    for name, upscaler in upscalers.items():
        _warm_up(upscaler, name, scheduler.costs)
    return UpscaleService(settings, models, scheduler)


def _warm_up(upscaler: ReliableUpscaler, name: str, costs: CostModel) -> None:
    """Run a picture of the size that suits the device, so that the first caller's pieces are cut to the right size."""
    side = math.isqrt(upscaler.most_px)
    picture = numpy.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=numpy.uint8)
    upscaler.batch([picture])  # the very first run prepares much that later ones find ready
    began_s = time.perf_counter()
    upscaler.batch([picture])
    costs.observe((name,), side * side, time.perf_counter() - began_s)


def _default_model(settings: Settings, models: Mapping[str, ModelInfo]) -> str:
    """The model that the settings name; else the best of the shipped ones that is there, else the first by name."""
    if not settings.default_model:
        device = next(iter(models.values())).device
        return next((name for name in PREFERRED.get(device, ()) if name in models), min(models))
    if settings.default_model not in models:
        raise SettingsError(
            f"ESRGAN_DEFAULT_MODEL={settings.default_model} is not in {settings.models}, which holds "
            f"{', '.join(sorted(models))}; name one of these"
        )
    return settings.default_model


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SettingsError(f"ESRGAN_MODELS={folder} holds no .safetensors file; train one or name another folder")
    return files


def _info(upscaler: ReliableUpscaler, checkpoint: Checkpoint) -> ModelInfo:
    return ModelInfo(
        name=checkpoint.card.name,
        sha256=checkpoint.sha256,
        scale=upscaler.scale,
        device=upscaler.device.type,
        precision=str(upscaler.dtype).removeprefix("torch."),
        metrics=checkpoint.card.metrics,
        whole_picture_px=upscaler.most_px,
        state_bytes_per_column=upscaler.state_bytes(planes=1, width=1),
    )
