"""Calls that a GPU repeats without Python: captured for each shape of their inputs, then replayed.

A network of hundreds of small kernels waits for its launches, which take the host longer than the device needs for the
kernels. A captured graph starts all of them at once.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from model.memory import says_out_of_memory

WARM_UP_CALLS = 2
"""Calls before a capture: in the first, libraries allocate and kernels are compiled and timed."""

Made = TypeVar("Made")
Key = tuple[tuple[torch.Size, torch.dtype], ...]

MAX_SHAPES = 256
"""Shapes that are remembered, whatever their size."""

SECOND_SIGHT = 2
"""Calls of a shape after which it is captured: a shape that never returns is not worth a capture."""

GRAPH_BYTES = 2**29
"""Inputs and outputs that the graphs of a network may hold."""

log = logging.getLogger(__name__)


class Graphs(Protocol):
    """What captures and replays; a test has one without a GPU."""

    def warm_up(self, call: Callable[[], object]) -> None:
        """Make a call as a capture will make it, but for real."""

    def capture(self, call: Callable[[], Made]) -> tuple[Callable[[], None], Made]:
        """Record a call.

        Returns:
            What replays it, and the call's result, which each replay fills anew.
        """


class CudaGraphs:
    """Graphs of one device, used by one thread. They share their memory: each replay may overwrite what others made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._aside = torch.cuda.Stream(device)

    def warm_up(self, call: Callable[[], object]) -> None:
        """See `Graphs`; on the stream of the captures, for which libraries set up what they need once."""
        now = torch.cuda.current_stream(self._device)
        self._aside.wait_stream(now)
        with torch.cuda.stream(self._aside):
            call()
        now.wait_stream(self._aside)

    def capture(self, call: Callable[[], Made]) -> tuple[Callable[[], None], Made]:
        """See `Graphs`; other threads may use the device meanwhile."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._aside, capture_error_mode="thread_local"):
                made = call()
        return graph.replay, made


@dataclass(frozen=True, kw_only=True)
class _Captured(Generic[Made]):
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    made: Made

    @property
    def memory_bytes(self) -> int:
        tensors = (*self.inputs, *((self.made,) if isinstance(self.made, Tensor) else ()))
        return sum(tensor.nbytes for tensor in tensors)


class CapturedCalls(Generic[Made]):
    """A function of tensors on one device, called through graphs where there are any.

    Args:
        function: makes tensors out of tensors. With inputs of the same shapes it does the same operations, without a
            look at their values, and leaves no trace for later calls: the first input of a shape meets it several
            times. Memory that it keeps, weights for example, must stay where it is; a graph knows it by its address.
        graphs: None to just call the function, as on a CPU.
        max_bytes: memory that the graphs may hold, each its inputs and outputs; the one not used for longest goes
            first.
        sights: calls of a shape after which it is captured.
    """

    def __init__(
        self,
        function: Callable[..., Made],
        graphs: Graphs | None,
        *,
        max_bytes: int = GRAPH_BYTES,
        sights: int = SECOND_SIGHT,
    ) -> None:
        self._function = function
        self._graphs = graphs
        self._max_bytes = max_bytes
        self._sights = sights
        self._seen: OrderedDict[Key, int] = OrderedDict()
        self._captured: OrderedDict[Key, _Captured[Made] | None] = OrderedDict()
        self._warned = False

    @property
    def memory_bytes(self) -> int:
        """Memory that inputs and outputs of the graphs hold."""
        return sum(captured.memory_bytes for captured in list(self._captured.values()) if captured)

    def clear(self) -> None:
        """Drop all graphs and their memory."""
        self._captured.clear()
        self._seen.clear()

    def leave_out(self) -> None:
        """Call the function without graphs from now on."""
        self.clear()
        self._graphs = None

    def __call__(self, *inputs: Tensor) -> Made:
        """Call the function.

        Returns:
            What the function makes; valid until the next call, which may overwrite it.
        """
        if self._graphs is None:
            return self._function(*inputs)
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._captured:
            if not self._familiar(key):
                return self._function(*inputs)
            self._captured[key] = self._capture(self._graphs, inputs)
        self._captured.move_to_end(key)
        self._make_room()
        captured = self._captured[key]
        if captured is None:
            return self._function(*inputs)
        for kept, given in zip(captured.inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        captured.replay()
        return captured.made

    def _familiar(self, key: Key) -> bool:
        """Count a call of a shape; False if it has come too seldom."""
        self._seen[key] = self._seen.pop(key, 0) + 1
        while len(self._seen) > MAX_SHAPES:
            self._seen.popitem(last=False)
        return self._seen[key] >= self._sights

    def _make_room(self) -> None:
        """Drop graphs until the others hold no more than they may; the newest stays for its call."""
        while len(self._captured) > 1 and (self.memory_bytes > self._max_bytes or len(self._captured) > MAX_SHAPES):
            self._captured.popitem(last=False)

    def _capture(self, graphs: Graphs, inputs: tuple[Tensor, ...]) -> _Captured[Made] | None:
        """None where the function works but cannot be captured."""
        kept = tuple(tensor.clone() for tensor in inputs)
        for _ in range(WARM_UP_CALLS):
            graphs.warm_up(lambda: self._function(*kept))
        try:
            replay, made = graphs.capture(lambda: self._function(*kept))
        except RuntimeError as error:  # CUDA's errors are subclasses
            if says_out_of_memory(error):
                raise  # the caller frees memory, and the shape may be captured later
            if not self._warned:
                log.warning("cannot be captured as a CUDA graph, so it runs without: %s", error)
                self._warned = True
            return None
        return _Captured(inputs=kept, replay=replay, made=made)
