"""Find which fast ways of a GPU (graphs, our kernel, pinned memory) to leave out after one fails while serving."""

import traceback
from collections.abc import Sequence
from typing import Protocol

import torch

from model.errors import one_line
from model.gpu import check_alive
from model.memory import says_out_of_memory

Ways = frozenset[str]


class Accelerated(Protocol):
    """A network on a device, some of whose fast ways can be left out."""

    device: torch.device
    left_out: Ways

    @property
    def fast_ways(self) -> Sequence[str]:
        """Fast ways of the device."""

    def use_all_but(self, left_out: Ways) -> None:
        """Use all of them except some, from the next call on."""

    def note_left_out(self, fault: str) -> None:
        """Log and count the ways that are left out from now on, because of a fault with them."""


def fewer(fast_ways: Sequence[str], left_out: Ways) -> list[Ways]:
    """List what else could be left out, in the order to try it: each way alone, then all together."""
    more = dict.fromkeys((*(left_out | {way} for way in fast_ways), frozenset(fast_ways)))
    return [some for some in more if some != left_out]


class Search:
    """Search for a way to do one piece of work that fails, with as little left out as possible.

    Pieces of several streams may take turns, each with a search of its own.
    """

    def __init__(self, network: Accelerated) -> None:
        self._network = network
        self._before = self._tried = network.left_out
        self._untried: list[Ways] | None = None
        self._fault: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Leave out other ways; the caller must then retry the work.

        Raises:
            DeviceLostError: the device has failed, whatever is left out.
            Exception: the first error, if nothing is left to try; also any error that means out of memory, whatever the
            ways. All ways are then used as before.
        """
        if says_out_of_memory(error):
            self.give_up()
            raise error
        check_alive(self._network.device)
        if self._network.left_out != self._tried:  # other work has failed too, and has changed the ways
            self._tried = self._network.left_out
            return
        if self._untried is None:
            self._before, self._untried = self._tried, fewer(self._network.fast_ways, self._tried)
            self._fault = error
            traceback.clear_frames(error.__traceback__)  # frees the tensors that its frames hold
        if not self._untried:
            self.give_up()
            assert self._fault is not None
            raise self._fault
        self._tried = self._untried.pop(0)
        self._network.use_all_but(self._tried)

    def succeeded(self) -> None:
        """Keep the current ways, if the retried work succeeded with them."""
        if self._fault is not None and self._tried != self._before:
            self._network.note_left_out(one_line(self._fault))
            self._before, self._untried, self._fault = self._tried, None, None

    def give_up(self) -> None:
        """Restore the ways from before the search, unless it has succeeded."""
        if self._tried != self._before and self._network.left_out == self._tried:
            self._tried = self._before
            self._network.use_all_but(self._before)
