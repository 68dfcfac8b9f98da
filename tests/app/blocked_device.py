"""A device that tests can block."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.networks import DeviceEngine
from app.pictures.picture import Pixels
from app.service import UpscaleInput


class BlockedDevice:
    """Blocks the device of a service until its gate is opened.

    Attributes:
        widths_px: widths of the pictures in its batches.
    """

    def __init__(self, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.widths_px: list[int] = []
        upscale = engine.batch

        def batch(inputs: Sequence[UpscaleInput]) -> Sequence[Pixels]:
            self.widths_px.extend(job.planes.shape[2] for job in inputs)
            self.entered.set()
            assert self.gate.wait(300)  # longer than any step of a test
            return upscale(inputs)

        monkeypatch.setattr(engine, "batch", batch)

    async def at_work(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 60)
