"""An entry of the library: a model's name, its file, its state and the network that serves it."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import Unavailable
from app.library.files import ModelFile
from app.library.loading import Loading
from app.library.network import ModelInfo, Network

READ_RETRY_S = 5
"""`Retry-After` for a file that cannot be read: a network drive often comes back within this time."""


class State(enum.Enum):
    """State of a model as seen by a request."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(kw_only=True, eq=False)
class LoadedNetwork:
    """A network in memory, and the number of requests that use it."""

    network: Network
    users: int = 0


@dataclass(kw_only=True, eq=False)
class Entry:
    """A model under one name. Belongs to the event loop."""

    name: str
    load: Callable[[], Loading]
    file: ModelFile | None
    """The file that was loaded or tried last; None after it was removed."""
    loaded: LoadedNetwork | None = None
    info: ModelInfo | None = None
    """Facts about the version that serves, or served before it was unloaded."""
    reason: str | None = None
    """Why the model failed, or why its last change was not accepted."""
    unreadable: bool = False
    """True where `reason` is only that the file cannot be read at the moment."""
    loading: asyncio.Task[None] | None = None
    waiting: int = 0
    """Number of requests that wait for its network."""
    used: int = 0
    """Sequence number of its latest use."""

    @property
    def state(self) -> State:
        """State as seen by a request."""
        if self.loaded is not None:
            return State.READY
        if self.loading is not None:
            return State.LOADING
        return State.UNLOADED if self.reason is None or self.unreadable else State.FAILED

    def unreadable_error(self) -> Unavailable:
        """Make the error for requests while the file cannot be read."""
        text = f"the model {self.name} cannot be loaded now: {self.reason}"
        return Unavailable(text, retry_after_s=READ_RETRY_S)

    @property
    def size_bytes(self) -> int:
        """Size of its file: about what its network needs."""
        return 0 if self.file is None else self.file.size_bytes

    @property
    def is_evictable(self) -> bool:
        """True where it can be unloaded: it is unused, no request waits for it, and it can be loaded again."""
        return self.loaded is not None and not self.loaded.users and not self.waiting and self.reason is None

    @property
    def memory_bytes(self) -> int:
        """Memory that its network uses."""
        return 0 if self.loaded is None else self.loaded.network.upscaler.memory_bytes
