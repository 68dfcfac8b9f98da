"""What operators may want to know of the device, and only the networks' side can tell."""

from collections.abc import Mapping
from typing import Protocol


class DeviceState(Protocol):
    """How the device stands at the moment. Read on the event loop."""

    @property
    def rescues(self) -> Mapping[str, Mapping[str, int]]:
        """By model and reason (`out_of_memory`, `float32`): how often work was done again since the start."""

    def memory_bytes(self) -> Mapping[str, int]:
        """Memory of the device, by kind; nothing where it is the process's own."""
