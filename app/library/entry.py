"""A model of the library: the network that serves under its name, and how that came about."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import Unavailable
from app.library.files import ModelFile
from app.library.loading import Loading
from app.library.network import ModelInfo, Network

READ_AGAIN_S = 5
"""When to try again what could not be read: a network drive that was away is often back by then."""


class State(enum.Enum):
    """What a request that names a model can expect."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(kw_only=True, eq=False)
class Held:
    """A network that is in memory, and how many requests use it."""

    network: Network
    users: int = 0


@dataclass(kw_only=True, eq=False)
class Entry:
    """What the library knows under one name. Belongs to the event loop."""

    name: str
    load: Callable[[], Loading]
    file: ModelFile | None
    """What was last loaded or tried; None once it was removed."""
    held: Held | None = None
    info: ModelInfo | None = None
    """Of the version that serves, or served before it was unloaded."""
    reason: str | None = None
    """Why it failed, or why the version before the last change serves on."""
    unread: bool = False
    """True where the reason is only that its file could not be read just now."""
    loading: asyncio.Task[None] | None = None
    waiting: int = 0
    """Number of requests that wait for its network."""
    used: int = 0
    """When it was used last, as a count."""

    @property
    def state(self) -> State:
        """What a request can expect."""
        if self.held is not None:
            return State.READY
        if self.loading is not None:
            return State.LOADING
        return State.UNLOADED if self.reason is None or self.unread else State.FAILED

    def unreadable(self) -> Unavailable:
        """The answer to a request while its file cannot be read."""
        text = f"the model {self.name} cannot be loaded now: {self.reason}"
        return Unavailable(text, retry_after_s=READ_AGAIN_S)

    @property
    def size_bytes(self) -> int:
        """Of its file: about what its network needs."""
        return 0 if self.file is None else self.file.size_bytes

    @property
    def may_go(self) -> bool:
        """True where it can be unloaded: nobody uses it or waits for it, and it can come back."""
        return self.held is not None and not self.held.users and not self.waiting and self.reason is None

    @property
    def memory_bytes(self) -> int:
        """What it holds at the moment."""
        return 0 if self.held is None else self.held.network.upscaler.memory_bytes
