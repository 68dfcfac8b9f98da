"""How a network comes into memory: in stretches, so that one thread owns the device and never works on it for long."""

from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Protocol

from app.library.network import Network

Loading = Generator[None, None, Network]
"""A network on its way: up to the first `yield` it runs beside the device, each later stretch in its thread."""
Run = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Runs a call in some thread."""


class LoadError(Exception):
    """A network cannot serve; the text tells operators and callers why, without a path."""


class UnreadableError(LoadError):
    """A file cannot be read at the moment: that says nothing about its network, and it is tried again."""


class Loader(Protocol):
    """Reads, sets up and tests networks.

    What it returns may raise `LoadError` at any step.
    """

    def file(self, name: str, path: Path) -> Loading:
        """The network of a weight file."""

    def blend(self, name: str, psnr: Network, gan: Network, *, alpha: float) -> Loading:
        """The network between two, whose weights are (1 - alpha) * psnr + alpha * gan."""


class Load:
    """One loading that is driven to its end."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading
        self._network: Network | None = None

    def now(self) -> Network:
        """Finish it in this thread, while nobody else uses the device."""
        while not self._step():
            pass
        return self._result

    async def between(self, *, beside: Run, on_device: Run) -> Network:
        """Finish it while others use the device: its first stretch beside them, the others between their pieces."""
        finished = await beside(self._step)
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
