"""Calls captured as CUDA graphs, one for each shape of their inputs, and replayed without Python.

For a network of hundreds of small kernels, the host takes longer to launch them than the device to run them. A captured
graph launches all of them at once.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from model.memory import says_out_of_memory

WARM_UP_CALLS = 2
"""Calls before a capture: during the first, libraries allocate memory, and kernels are compiled and timed."""

Made = TypeVar("Made")
Shapes = tuple[tuple[torch.Size, torch.dtype], ...]

MAX_SHAPES = 256
"""Maximum number of shapes that are remembered."""

CALLS_TO_CAPTURE = 2
"""Calls of a shape after which it is captured; a shape that occurs once is not worth it."""

GRAPH_BYTES = 2**29
"""Maximum memory of the inputs and outputs of a network's graphs."""

log = logging.getLogger(__name__)


class Graphs(Protocol):
    """Captures and replays calls; tests use an implementation without a GPU."""

    def warm_up(self, call: Callable[[], object]) -> None:
        """Run a call under the conditions of a capture."""

    def capture(self, call: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record a call.

        Returns:
            A function that replays it, and its result, which each replay overwrites.
        """


class CudaGraphs:
    """Graphs of one device, used by one thread. They share memory: a replay may overwrite the results of others."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._aside = torch.cuda.Stream(device)

    def warm_up(self, call: Callable[[], object]) -> None:
        """See `Graphs`; uses the stream of the captures, so that libraries initialise themselves for it."""
        now = torch.cuda.current_stream(self._device)
        self._aside.wait_stream(now)
        with torch.cuda.stream(self._aside):
            call()
        now.wait_stream(self._aside)

    def capture(self, call: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Graphs`."""
        with torch.cuda.device(self._device):
            return captured(call, pool=self._pool, stream=self._aside)


def captured(call: Callable[[], Made], **where: Any) -> tuple[Callable[[], None], Made]:
    """Record a call on the current GPU, while other threads may use it; see `Graphs.capture`.

    Args:
        where: memory and stream, as `torch.cuda.graph` takes them.
    """
    graph = torch.cuda.CUDAGraph()
    with (
        torch.cuda.stream(torch.cuda.current_stream()),  # PyTorch leaves its own one current after a failed capture
        torch.cuda.graph(graph, capture_error_mode="thread_local", **where),
    ):
        made = call()
    return graph.replay, made


@dataclass(frozen=True, kw_only=True)
class _Captured:
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    made: Tensor

    @property
    def memory_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.inputs, self.made))


class CapturedCalls:
    """A function of tensors on one device, called through graphs if possible.

    Args:
        function: maps tensors to a tensor. For inputs of the same shapes it does the same operations, whatever their
            values are, and has no side effects, because it is called several times with the first input of a shape.
            Memory that it keeps, such as weights, must not move, because graphs use its address.
        max_bytes: memory for inputs and outputs of all graphs; the least recently used graph is dropped first.
        calls_to_capture: calls of a shape after which it is captured.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        graphs: Graphs,
        *,
        max_bytes: int = GRAPH_BYTES,
        calls_to_capture: int = CALLS_TO_CAPTURE,
    ) -> None:
        self._function = function
        self._graphs = graphs
        self._max_bytes = max_bytes
        self._calls_to_capture = calls_to_capture
        self._seen: OrderedDict[Shapes, int] = OrderedDict()
        self._captured: OrderedDict[Shapes, _Captured | None] = OrderedDict()
        self._warned = False

    @property
    def memory_bytes(self) -> int:
        """Memory of the inputs and outputs of the graphs."""
        return sum(captured.memory_bytes for captured in list(self._captured.values()) if captured)

    def clear(self) -> None:
        """Drop all graphs and their memory."""
        self._captured.clear()
        self._seen.clear()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Call the function.

        Returns:
            The result of the function; valid until the next call, which may overwrite it.
        """
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._captured:
            if not self._familiar(key):
                return self._function(*inputs)
            self._captured[key] = self._capture(inputs)
        self._captured.move_to_end(key)
        self._make_room()
        captured = self._captured[key]
        if captured is None:
            return self._function(*inputs)
        for kept, given in zip(captured.inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        captured.replay()
        return captured.made

    def _familiar(self, key: Shapes) -> bool:
        """Count a call of a shape; False if there have not been enough."""
        self._seen[key] = self._seen.pop(key, 0) + 1
        while len(self._seen) > MAX_SHAPES:
            self._seen.popitem(last=False)
        return self._seen[key] >= self._calls_to_capture

    def _make_room(self) -> None:
        """Drop the least recently used graphs until the rest is within the limits; the newest stays for its call."""
        while len(self._captured) > 1 and (self.memory_bytes > self._max_bytes or len(self._captured) > MAX_SHAPES):
            self._captured.popitem(last=False)

    def _capture(self, inputs: tuple[Tensor, ...]) -> _Captured | None:
        """Capture a call; None if the function works but cannot be captured."""
        kept = tuple(tensor.clone() for tensor in inputs)
        for _ in range(WARM_UP_CALLS):
            self._graphs.warm_up(lambda: self._function(*kept))
        try:
            replay, made = self._graphs.capture(lambda: self._function(*kept))
        except RuntimeError as error:  # CUDA's errors are subclasses
            if says_out_of_memory(error):
                raise  # the caller frees memory, and the shape may be captured later
            if not self._warned:
                log.warning("cannot be captured as a CUDA graph, so it runs without: %s", error)
                self._warned = True
            return None
        return _Captured(inputs=kept, replay=replay, made=made)
