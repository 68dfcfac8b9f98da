"""Find which fast paths of a GPU (graphs, our kernel, pinned memory) to disable after one fails while serving."""

import traceback
from collections.abc import Sequence
from typing import Protocol

import torch

from model.errors import one_line
from model.gpu import check_alive
from model.memory import says_out_of_memory

FastPaths = frozenset[str]


class Accelerated(Protocol):
    """A network on a device, some of whose fast paths can be disabled."""

    device: torch.device
    disabled: FastPaths

    @property
    def fast_paths(self) -> Sequence[str]:
        """Fast paths of the device."""

    def disable_only(self, disabled: FastPaths) -> None:
        """Disable these and enable the others, from the next call on."""

    def note_disabled(self, fault: str) -> None:
        """Log and count the paths that are disabled from now on, because of a fault with them."""


def fewer(fast_paths: Sequence[str], disabled: FastPaths) -> list[FastPaths]:
    """List what else could be disabled, in the order to try it: each path alone, then all together."""
    more = dict.fromkeys((*(disabled | {path} for path in fast_paths), frozenset(fast_paths)))
    return [some for some in more if some != disabled]


class Search:
    """Search for the fewest paths to disable so that one piece of work no longer fails.

    Pieces of several streams may take turns, each with a search of its own.
    """

    def __init__(self, network: Accelerated) -> None:
        self._network = network
        self._before = self._tried = network.disabled
        self._untried: list[FastPaths] | None = None
        self._fault: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Disable other paths; the caller must then retry the work.

        Raises:
            DeviceLostError: the device has failed, whatever is disabled.
            Exception: the first error, if nothing is left to try; also any error that means out of memory, whatever the
            paths. All paths are then used as before.
        """
        if says_out_of_memory(error):
            self.give_up()
            raise error
        check_alive(self._network.device)
        if self._network.disabled != self._tried:  # other work has failed too, and has changed the paths
            self._tried = self._network.disabled
            return
        if self._untried is None:
            self._before, self._untried = self._tried, fewer(self._network.fast_paths, self._tried)
            self._fault = error
            traceback.clear_frames(error.__traceback__)  # frees the tensors that its frames hold
        if not self._untried:
            self.give_up()
            assert self._fault is not None
            raise self._fault
        self._tried = self._untried.pop(0)
        self._network.disable_only(self._tried)

    def succeeded(self) -> None:
        """Keep the current paths, if the retried work succeeded with them."""
        if self._fault is not None and self._tried != self._before:
            self._network.note_disabled(one_line(self._fault))
            self._before, self._untried, self._fault = self._tried, None, None

    def give_up(self) -> None:
        """Restore the paths from before the search, unless it has succeeded."""
        if self._tried != self._before and self._network.disabled == self._tried:
            self._tried = self._before
            self._network.disable_only(self._before)
