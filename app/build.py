"""Builds the service: settings, library, networks, scheduler. The only file that knows all of them."""

import asyncio
from contextlib import suppress
from functools import partial

from app.batching.device_thread import DeviceThread
from app.batching.scheduler import Scheduler
from app.errors import Unavailable
from app.library.files import Folder
from app.library.library import Library, NoModelError
from app.library.network import Network
from app.networks import SUFFIXES, Device, DeviceEngine, NetworkLoader, use_physical_cores
from app.pictures.picture import Pixels
from app.png.compiled import load_compiled
from app.service import UpscaleInput, UpscaleService
from app.settings import Settings, SettingsError

PREFERRED = ("compact-real-esrgan-x4", "compact-real-psnr-x4", "compact-psnr-x4")
"""Shipped models for requests that name none, the one that looks best on real uploads first. It draws some texture of
its own; clients that want none ask for `fidelity=1` or name the second.
"""

RELEASE_DELAY_S = 1.0
"""Grace period before the memory of an unloaded network is freed, so that nothing refers to it any more."""


def build_service(settings: Settings, *, engine: DeviceEngine | None = None) -> UpscaleService:
    """Load and test the networks of the models folder and assemble the service around them.

    Args:
        engine: runs batches and streams; by default on the networks themselves.

    Raises:
        SettingsError: the device cannot be used; or the folder has no weight file that works, or not the default model.
        DeviceLost: the device has failed, or the driver hangs.
    """
    use_physical_cores(settings.threads)
    chosen = partial(Device.chosen, settings.device)
    device = DeviceThread(hang_s=settings.hang_s).call(chosen, "the choice of the device")
    load_compiled()
    scheduler: Scheduler[UpscaleInput, Pixels] = Scheduler(
        engine or DeviceEngine(device),
        max_queued_px=settings.max_queued_px,
        max_stream_bytes=settings.max_stream_bytes,
        piece_s=settings.piece_s,
        hang_s=settings.hang_s,
    )

    def learn_speed(network: Network) -> None:
        for px, seconds in network.speed:
            scheduler.costs.observe((network.info.version,), px, seconds)

    async def release_memory() -> None:
        await asyncio.sleep(RELEASE_DELAY_S)
        with suppress(RuntimeError, Unavailable):  # the service has stopped in the meantime
            await scheduler.between_pieces(device.release_memory)

    library = Library(
        Folder(settings.models, SUFFIXES),
        NetworkLoader(
            piece_s=settings.piece_s,
            max_loss_db=settings.max_loss_db,
            device=device,
            precision=settings.precision,
        ),
        on_device=scheduler.between_pieces,
        ready=learn_speed,
        freed=release_memory,
        max_bytes=settings.max_model_bytes,
    )
    try:
        library.open(
            default=settings.default_model,
            preferred=PREFERRED,
            lazily=settings.load == "lazy",
            run=lambda step: scheduler.before_pieces(step, "a step of loading a network"),
        )
    except NoModelError as error:
        raise SettingsError(f"ESRGAN_MODELS and ESRGAN_DEFAULT_MODEL: {error}") from error
    return UpscaleService(settings, library, scheduler, device)
