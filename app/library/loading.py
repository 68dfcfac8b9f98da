"""Loading a network in steps, so that one thread owns the device and is never blocked for long."""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Protocol

from app.library.network import Network

Loading = Generator[None, None, Network]
"""A network being loaded. The step before the first `yield` runs in any thread, the others in the device's thread."""
Step = Callable[[], Network | None]
"""Runs the next step of loading; returns the network after the last one."""
RunInThread = Callable[[Step], Awaitable[Network | None]]
"""Runs a step in a thread."""
RunNow = Callable[[Step], Network | None]
"""Runs a step, and waits for it."""


class LoadError(Exception):
    """A network cannot serve; the text says why to operators and callers, without a path."""


class UnreadableError(LoadError):
    """A file cannot be read at the moment, so it is tried again."""


class DeviceFullError(LoadError):
    """The device does not have enough memory at the moment, so the file is tried again."""


class Loader(Protocol):
    """Reads, builds and tests networks. The generators that it returns may raise `LoadError` at any step."""

    def file(self, name: str, path: Path) -> Loading:
        """Load the network of a weight file."""

    def blend(self, name: str, psnr: Network, gan: Network, *, alpha: float) -> Loading:
        """Load a blend of two networks, whose weights are (1 - alpha) * psnr + alpha * gan."""


def load_now(loading: Loading, run: RunNow) -> Network:
    """Run all steps while nothing else uses the device."""
    step = partial(_next, loading)
    while (network := run(step)) is None:
        pass
    return network


async def load_between(loading: Loading, *, in_thread: RunInThread, on_device: RunInThread) -> Network:
    """Run the first step in a thread and the others between pieces of work on the device."""
    step = partial(_next, loading)
    network = await in_thread(step)
    while network is None:
        network = await on_device(step)
    return network


def _next(loading: Loading) -> Network | None:
    try:
        next(loading)
    except StopIteration as end:  # which no future can hold
        network: Network = end.value
        return network
    return None
