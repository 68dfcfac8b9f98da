"""Loading a network in steps, so that one thread owns the device and is never blocked for long."""

from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Protocol

from app.library.network import Network

Loading = Generator[None, None, Network]
"""A network being loaded. The step before the first `yield` runs in any thread, the others in the device's thread."""
RunInThread = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Runs a call in a thread."""
RunNow = Callable[[Callable[[], bool]], bool]
"""Runs a call, and waits for it."""


def run_here(call: Callable[[], bool]) -> bool:
    """Run a call in this thread."""
    return call()


class LoadError(Exception):
    """A network cannot serve; the text says why to operators and callers, without a path."""


class TemporaryLoadError(LoadError):
    """A network cannot be loaded at the moment; this says nothing about its file, so it is retried."""


class UnreadableError(TemporaryLoadError):
    """A file cannot be read at the moment."""


class DeviceFullError(TemporaryLoadError):
    """The device does not have enough memory at the moment."""


class Loader(Protocol):
    """Reads, builds and tests networks. The generators that it returns may raise `LoadError` at any step."""

    def file(self, name: str, path: Path) -> Loading:
        """Load the network of a weight file."""

    def blend(self, name: str, psnr: Network, gan: Network, *, alpha: float) -> Loading:
        """Load a blend of two networks, whose weights are (1 - alpha) * psnr + alpha * gan."""


class Load:
    """Runs a loading generator to its end."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading
        self._network: Network | None = None

    def now(self, run: RunNow) -> Network:
        """Run it step by step, while nothing else uses the device."""
        while not run(self._step):
            pass
        return self._result

    async def between(self, *, in_thread: RunInThread, on_device: RunInThread) -> Network:
        """Run the first step in a thread and the others between pieces of work on the device."""
        finished = await in_thread(self._step)
        while not finished:
            finished = await on_device(self._step)
        return self._result

    @property
    def _result(self) -> Network:
        assert self._network is not None
        return self._network

    def _step(self) -> bool:
        try:
            next(self._loading)
        except StopIteration as end:
            self._network = end.value
            return True
        return False
