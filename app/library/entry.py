"""An entry of the library: a model's name, its file, its state and the network that serves it."""

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import Unavailable
from app.library.files import ModelFile
from app.library.loading import DeviceFullError, LoadError, Loading, UnreadableError
from app.library.network import ModelInfo, Network

READ_RETRY_S = 5
"""`Retry-After` for a file that cannot be read: a network drive often comes back within this time."""

FULL_RETRY_S = 30
"""`Retry-After` for a network that the device has no memory for, and seconds until a new version is retried."""


class ModelState(enum.Enum):
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
    """The file of the last load or attempt; None after it was removed."""
    loaded: LoadedNetwork | None = None
    info: ModelInfo | None = None
    """Facts about the version that serves, or served before it was unloaded."""
    reason: str | None = None
    """Why the model failed, or why its last change was not accepted."""
    unreadable: bool = False
    """True if `reason` is only that the file cannot be read at the moment."""
    full_until_s: float | None = None
    """Time of the next retry, if `reason` is only that the device has no memory for it at the moment."""
    loading: asyncio.Task[None] | None = None
    waiting: int = 0
    """Number of requests that wait for its network."""
    used: int = 0
    """Sequence number of its latest use."""

    @property
    def state(self) -> ModelState:
        """State as seen by a request."""
        if self.loaded is not None:
            return ModelState.READY
        if self.loading is not None:
            return ModelState.LOADING
        return ModelState.UNLOADED if self.reason is None or self.is_tried_again else ModelState.FAILED

    @property
    def is_tried_again(self) -> bool:
        """True if `reason` says nothing about the file."""
        return self.unreadable or self.full_until_s is not None

    @property
    def is_due(self) -> bool:
        """True if an unchanged file should be retried without a request for it."""
        if self.full_until_s is None:
            return self.unreadable
        return self.loaded is not None and time.monotonic() > self.full_until_s

    def fail(self, error: Exception) -> None:
        """Note why it could not be loaded."""
        self.reason = str(error) if isinstance(error, LoadError) else "an unexpected error; see the service's log"
        self.unreadable = isinstance(error, UnreadableError)
        self.full_until_s = time.monotonic() + FULL_RETRY_S if isinstance(error, DeviceFullError) else None
        if self.loaded is not None:
            self.reason += f"; {self.loaded.network.info.version} keeps serving"

    def temporary_error(self) -> Unavailable:
        """Make the error for requests while it cannot be loaded."""
        text = f"the model {self.name} cannot be loaded now: {self.reason}"
        return Unavailable(text, retry_after_s=READ_RETRY_S if self.unreadable else FULL_RETRY_S)

    @property
    def size_bytes(self) -> int:
        """Size of its file: about what its network needs."""
        return 0 if self.file is None else self.file.size_bytes

    @property
    def is_evictable(self) -> bool:
        """True if it can be unloaded: it is unused, no request waits for it, and it can be loaded again."""
        can_be_loaded = self.reason is None or self.full_until_s is not None
        return self.loaded is not None and not self.loaded.users and not self.waiting and can_be_loaded

    @property
    def memory_bytes(self) -> int:
        """Memory that its network uses."""
        return 0 if self.loaded is None else self.loaded.network.upscaler.memory_bytes
