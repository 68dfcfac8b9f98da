"""Networks for the service: loads and tests them, and runs the scheduler's pieces on them.

The only file of app that imports the networks of `model`; reading pictures goes through `app.pictures`.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import numpy
import torch

from app.batching.job import DeviceLost
from app.errors import Unavailable
from app.library.loading import DeviceFullError, LoadError, Loading, UnreadableError
from app.library.network import ModelInfo, Network
from app.pictures.picture import Pixels
from app.service import UpscaleInput
from app.settings import SettingsError
from app.text import encodable
from model.device import (
    CPU,
    FORMATS,
    DeviceMemoryError,
    choose_device,
    memory_bytes,
    release_memory,
)
from model.device import use_physical_cores as use_physical_cores
from model.ensemble import StreamUpscaler, ensemble_batch, ensemble_stream
from model.errors import UnreadableError as UnreadableFileError
from model.errors import WeightsError
from model.files.checkpoint import FORMAT
from model.files.reading import SUFFIXES as SUFFIXES
from model.files.reading import AnyCheckpoint, read_any
from model.formats import NumberFormatError, check_native
from model.gate import refuse_far_from_bicubic
from model.golden import SelfTestError
from model.gpu import DeviceError, DeviceLostError, check_alive
from model.graphs import CALLS_TO_CAPTURE
from model.interpolation import InterpolationError, blended
from model.picture_upscaler import SuspiciousOutputError
from model.reliable import ReliableUpscaler
from model.rows import Passes
from model.upscaler import GRAPHS

MEMORY_RETRY_S = 30
"""`Retry-After` of a picture that did not fit into the device's memory: other pictures have usually left by then."""

WIDE_PX = 4096
"""Width at which the memory of a stream is measured; wide enough that the horizontal padding is negligible."""

MIN_WARM_UP_PX = 32
"""Side of the first warm-up picture; each further one has twice the side."""


class Device:
    """The device that networks run on; see `app.service.DeviceState`.

    Attributes:
        retries: counts of retried work by model and reason; the loader adds to them.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        self.retries: dict[str, Counter[str]] = {}
        self._memory_bytes: Mapping[str, int] = {}

    @classmethod
    def chosen(cls, wanted: str) -> Self:
        """Choose the device that ESRGAN_DEVICE names.

        Raises:
            SettingsError: it cannot be used; says why.
        """
        try:
            return cls(choose_device(wanted))
        except DeviceError as error:
            raise SettingsError(f"ESRGAN_DEVICE={wanted}: {error}") from error

    def memory_bytes(self) -> Mapping[str, int]:
        """Return the memory of the GPU by kind, as it was after the latest call; empty on a CPU.

        A scrape must not call the driver: if that hangs, so does the event loop.
        """
        return self._memory_bytes

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Check the device after an error within the block; runs in the device's thread.

        Raises:
            DeviceLost: the device has failed.
        """
        try:
            yield
        except Exception as error:
            try:
                check_alive(self.device)
            except DeviceLostError as lost:
                raise DeviceLost(f"{lost} (found after: {' '.join(str(error).split())})") from error
            raise
        try:
            self._memory_bytes = memory_bytes(self.device)
        except RuntimeError:  # the work is done; the next call will show if the device is lost
            self._memory_bytes = {}

    def release_memory(self) -> None:
        """Return memory that networks no longer use to the operating system; call it in the device's thread."""
        with self.watched():
            release_memory(self.device)


class DeviceEngine:
    """The scheduler's engine: runs batches and streams on the network that each job brings along."""

    def __init__(self, device: Device | None = None) -> None:
        self._device = device or Device()

    def max_px(self, job: UpscaleInput) -> int:
        """Return the maximum LR px of a piece: what suits the device, less after the network ran out of memory."""
        return job.network.upscaler.most_px

    def batch(self, inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
        """Upscale whole pictures of one network together. All of them have the same edges, and are ensembles or not.

        Raises:
            Unavailable: one of them does not fit into the device's memory, not even alone.
        """
        with _as_unavailable(), self._device.watched():
            upscaler, pictures = inputs[0].network.upscaler, [job.planes for job in inputs]
            upscale = partial(ensemble_batch, upscaler) if inputs[0].ensemble else upscaler.batch
            return upscale(pictures, inputs[0].edges)

    def stream(self, job: UpscaleInput, band_px: int) -> Generator[Pixels | None]:
        """Upscale one picture in bands of rows.

        Raises:
            Unavailable: not even a single row fits into the device's memory.
        """
        scale, (planes, _, width, _) = job.network.info.scale, job.planes.shape
        upscaler: StreamUpscaler = job.network.upscaler
        if job.passes > 1:
            assert isinstance(upscaler, ReliableUpscaler)
            upscaler = Passes(upscaler, scale, job.passes)
        with _as_unavailable(), self._device.watched():
            if job.ensemble:
                bands = ensemble_stream(upscaler, job.planes, scale=scale**job.passes, band_px=band_px, edges=job.edges)
            else:
                bands = upscaler.stream(job.planes, max(1, band_px // (planes * width)), edges=job.edges)
            for rows in bands:
                yield rows if rows.shape[1] else None


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except DeviceMemoryError as error:
        raise Unavailable(
            "the device does not have enough memory for this picture right now; send a smaller one, or try again later",
            retry_after_s=MEMORY_RETRY_S,
        ) from error


class NetworkLoader:
    """The library's loader: turns a weight file into a network that has passed its tests and is warmed up.

    Args:
        piece_s: target duration of a piece; the warm-up stops before a picture takes longer.
        max_loss_db: how far below bicubic a network may be whose file has no golden picture.
        device: runs the networks and counts their retried work; a model's count continues when it is reloaded.
        precision: number format of the networks, which the device must compute natively, or `fastest`.
    """

    def __init__(
        self,
        *,
        piece_s: float,
        max_loss_db: float,
        device: Device | None = None,
        precision: str = "fastest",
    ) -> None:
        self._piece_s = piece_s
        self._max_loss_db = max_loss_db
        self._device = device or Device()
        self._dtype = FORMATS.get(precision)
        self._related: set[tuple[str, str]] = set()
        """Hashes of networks that have been blended: further blends of two skip the check of their origin."""

    def file(self, name: str, path: Path) -> Loading:
        """Load a weight file; see `app.library.loading.Loader`."""
        with _as_load_error(path), self._device.watched():
            checkpoint = read_any(path)
            yield
            return (yield from self._network(name, checkpoint))

    def blend(self, name: str, psnr: Network, gan: Network, *, alpha: float) -> Loading:
        """Interpolate two networks; see `app.library.loading.Loader`.

        A blend must be ready while a caller turns a dial. Its weights are tested on the golden picture, but it needs no
        warm-up: kernels and speed depend on the shape, which is that of the two networks.
        """
        assert isinstance(psnr.upscaler, ReliableUpscaler)
        assert isinstance(gan.upscaler, ReliableUpscaler)
        with _as_load_error(), self._device.watched():
            origins = psnr.info.sha256, gan.info.sha256
            related = origins in self._related
            checkpoint = blended(psnr.upscaler.source(), gan.upscaler.source(), alpha, related=related)
            self._related.add(origins)
            yield
            return (yield from self._network(name, checkpoint, speed=psnr.speed))

    def _network(
        self, name: str, checkpoint: AnyCheckpoint, speed: Sequence[tuple[int, float]] | None = None
    ) -> Loading:
        """Set up and test a network, and warm it up unless its speed is known."""
        self._check_precision(checkpoint)
        upscaler = ReliableUpscaler(
            checkpoint, self._device.device, dtype=self._dtype, may_fall_back=self._dtype is None
        )
        upscaler.retries = self._device.retries.setdefault(name, upscaler.retries)
        yield
        if checkpoint.format != FORMAT:  # it has no golden picture to test it with
            refuse_far_from_bicubic(upscaler, self._max_loss_db)
            yield
        if speed is None:
            speed = yield from self._warm_up(upscaler)
        return Network(info=_info(name, upscaler, checkpoint), upscaler=upscaler, speed=speed)

    def _check_precision(self, checkpoint: AnyCheckpoint) -> None:
        try:
            if self._dtype is not None:
                check_native(checkpoint.net, self._device.device, self._dtype)
        except NumberFormatError as error:
            raise LoadError(f"ESRGAN_PRECISION: {error}; name one of these, or fastest") from error

    def _warm_up(self, upscaler: ReliableUpscaler) -> Generator[None, None, Sequence[tuple[int, float]]]:
        """Run larger and larger pictures, so that the first request finds kernels prepared and speeds measured."""
        speed: list[tuple[int, float]] = []
        captures = GRAPHS in set(upscaler.fast_paths) - upscaler.disabled
        side, seconds = min(MIN_WARM_UP_PX, math.isqrt(upscaler.most_px)), 0.0
        while side**2 <= upscaler.most_px and seconds < self._piece_s / 2:
            picture = numpy.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=numpy.uint8)
            for _ in range(CALLS_TO_CAPTURE if captures else 1):  # not timed: they also prepare the shape
                upscaler.batch([picture])
                yield
            began_s = time.perf_counter()
            upscaler.batch([picture])
            seconds = time.perf_counter() - began_s
            speed.append((side**2, seconds))
            yield
            side *= 2
        return speed


@contextmanager
def _as_load_error(path: Path | None = None) -> Iterator[None]:
    """Report a bad weight file without the path to it, because callers can read the text."""
    try:
        yield
    except UnreadableFileError as error:
        raise UnreadableError(_public(error, path)) from error
    except DeviceMemoryError as error:
        raise DeviceFullError("the device does not have enough memory for it right now") from error
    except (WeightsError, InterpolationError, SelfTestError, SuspiciousOutputError) as error:
        raise LoadError(_public(error, path)) from error


def _public(error: Exception, path: Path | None) -> str:
    """Return the text of an error on one line, in valid UTF-8, with file names instead of paths."""
    text = str(error)
    if path is not None:
        text = text.replace(f"{path.parent}{os.sep}", "")
    return encodable(" ".join(text.split()))


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
        wrap_multiple_px=upscaler.wrap_multiple_px,
        wrap_margin_px=upscaler.wrap_margin_px,
    )
