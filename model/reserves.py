"""Memory that the networks of a device keep for later calls: one workspace for all of them, and the graphs of each."""

from weakref import WeakSet, WeakValueDictionary

import torch

from model.device import BAND_PX, release_memory
from model.graphs import CapturedCalls
from model.workspace import Workspace

PIXEL_BYTES = 2300
"""Maximum memory for each LR px of a band with 64 channels while it is computed."""

_of_device: "WeakValueDictionary[torch.device, Reserves]" = WeakValueDictionary()


class Reserves:
    """Memory kept on a device for its thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.workspace = Workspace()
        self._graphs: WeakSet[CapturedCalls] = WeakSet()

    def add(self, graphs: CapturedCalls) -> None:
        """Let `clear` drop these graphs as well."""
        self._graphs.add(graphs)

    def clear(self) -> None:
        """Free the workspace and all graphs; later calls allocate what they need."""
        self.workspace.clear()
        for graphs in list(self._graphs):
            graphs.clear()
        release_memory(self._device)


def reserves_of(device: torch.device) -> Reserves:
    """Return the reserves that all networks of a GPU share; on a CPU, each network gets its own.

    Several threads may use networks on a CPU, and their workspaces are small.
    """
    if device.type == "cpu":
        return Reserves(device)
    found = _of_device.get(device)
    if found is None:
        found = _of_device[device] = Reserves(device)
    return found


def band_px(device: torch.device, channels: int) -> int:
    """Return the best number of LR px in a band; on a GPU it takes at most half of the free memory."""
    most = BAND_PX[device.type]
    if device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, min(most, free // 2 * 64 // (PIXEL_BYTES * channels)))
