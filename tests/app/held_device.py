"""A device that a test holds."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.pictures.picture import Pixels
from app.service import Job, UpscaleService


class Held:
    """The device of a service, which works no further until its gate is opened.

    Attributes:
        widths_px: of the pictures that it was given.
    """

    def __init__(self, service: UpscaleService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.widths_px: list[int] = []
        upscale = service.scheduler._engine.batch

        def batch(inputs: Sequence[Job]) -> Sequence[Pixels]:
            self.widths_px.extend(job.planes.shape[2] for job in inputs)
            self.entered.set()
            assert self.gate.wait(20)
            return upscale(inputs)

        monkeypatch.setattr(service.scheduler._engine, "batch", batch)

    async def at_work(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)
