import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from model.convolutions import timing
from model.graphs import WARM_UP_CALLS, CapturedCalls, CudaGraphs, captured

CUDA = torch.device("cuda", 0)


class FakeGraphs:
    """A device whose graphs are replayed by calling again, into the memory of the first result."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fails = False
        self.error = torch.AcceleratorError("operation not permitted when stream is capturing")

    def warm_up(self, call: Callable[[], object]) -> None:
        self.log.append("warm up")
        call()

    def capture(self, call: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.log.append("capture")
        if self.fails:
            raise self.error
        made = call().fill_(torch.nan)  # a capture computes nothing

        def replay() -> None:
            self.log.append("replay")
            made.copy_(call())

        return replay, made


@pytest.fixture
def graphs() -> FakeGraphs:
    return FakeGraphs()


FIRST = ["warm up"] * WARM_UP_CALLS + ["capture", "replay"]


def twice(x: Tensor) -> Tensor:
    return 2 * x


def test_a_shape_is_captured_once_and_replayed_with_each_input(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(twice, graphs, calls_to_capture=1)
    for number in range(3):
        x = torch.full((2, 3), float(number))
        assert torch.equal(calls(x), 2 * x)
    assert graphs.log == [*FIRST, "replay", "replay"]


def test_each_shape_and_format_has_its_graph(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(twice, graphs, calls_to_capture=1)
    inputs = [torch.rand(3), torch.rand(4), torch.rand(3).double()]
    for x in inputs + inputs:
        assert torch.equal(calls(x), 2 * x)
    assert graphs.log == [*FIRST * 3, *["replay"] * 3]


def test_several_inputs_are_kept_apart(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(lambda x, y: x - y, graphs, calls_to_capture=1)
    x, y = torch.rand(3), torch.rand(3)
    assert torch.equal(calls(x, y), x - y)
    assert torch.equal(calls(y, x), y - x)


def test_the_callers_tensors_are_not_the_graphs(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(twice, graphs, calls_to_capture=1)
    x = torch.ones(3)
    calls(x)
    x.fill_(torch.nan)
    assert torch.equal(calls(torch.ones(3)), torch.full((3,), 2.0))


def test_the_shape_not_used_for_longest_is_captured_again(graphs: FakeGraphs) -> None:
    two_graphs = 2 * (6 + 6) * torch.float32.itemsize  # of six numbers in and six out
    calls = CapturedCalls(twice, graphs, max_bytes=two_graphs, calls_to_capture=1)
    one, two, three = torch.rand(6), torch.rand(2, 3), torch.rand(3, 2)
    for x in (one, two, one, three):
        calls(x)
    graphs.log.clear()
    calls(one)
    assert graphs.log == ["replay"]
    calls(two)
    assert graphs.log == ["replay", *FIRST]


def test_what_cannot_be_captured_is_called_and_said_once(graphs: FakeGraphs, caplog: pytest.LogCaptureFixture) -> None:
    calls = CapturedCalls(twice, graphs, calls_to_capture=1)
    graphs.fails = True
    with caplog.at_level(logging.WARNING):
        for x in (torch.rand(3), torch.rand(3), torch.rand(4)):
            assert torch.equal(calls(x), 2 * x)
    assert graphs.log.count("capture") == 2  # not retried for a shape
    assert [record.getMessage() for record in caplog.records] == [
        "cannot be captured as a CUDA graph, so it runs without: operation not permitted when stream is capturing"
    ]


def test_an_error_of_the_function_itself_is_the_callers(graphs: FakeGraphs) -> None:
    def out_of_memory(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    calls = CapturedCalls(out_of_memory, graphs, calls_to_capture=1)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            calls(torch.rand(3))
    assert graphs.log == ["warm up", "warm up"]


def test_a_shape_is_captured_when_it_comes_again(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(twice, graphs)
    calls(torch.rand(3))
    assert graphs.log == []
    calls(torch.rand(3))
    assert graphs.log == FIRST


def test_memory_that_does_not_suffice_for_a_capture_is_the_callers_and_it_is_tried_again(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(twice, graphs, calls_to_capture=1)
    graphs.error = torch.AcceleratorError("CUDA error: out of memory")
    graphs.fails = True
    with pytest.raises(torch.AcceleratorError, match="out of memory"):
        calls(torch.rand(3))
    graphs.fails = False
    x = torch.rand(3)
    assert torch.equal(calls(x), 2 * x)
    assert graphs.log[-1] == "replay"


def test_graphs_hold_what_they_say_until_they_are_dropped(graphs: FakeGraphs) -> None:
    calls = CapturedCalls(twice, graphs, calls_to_capture=1)
    calls(torch.rand(3))
    assert calls.memory_bytes == 2 * 3 * torch.float32.itemsize
    calls.clear()
    assert calls.memory_bytes == 0
    calls(torch.rand(3))
    assert graphs.log == FIRST * 2


@pytest.mark.parametrize("capture", [captured, timing._round])
def test_a_capture_that_fails_leaves_the_callers_stream_current(
    capture: Callable[[Callable[[], object]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    current = ["the caller's"]

    @contextmanager
    def stream(wanted: str) -> Iterator[None]:
        before, current[0] = current[0], wanted
        try:
            yield
        finally:
            current[0] = before

    @contextmanager
    def graph(*_: object, **where: object) -> Iterator[None]:
        current[0] = "PyTorch's"
        yield
        raise torch.AcceleratorError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Mock())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    with suppress(RuntimeError):
        capture(lambda: None)
    assert current == ["the caller's"]


@pytest.mark.gpu
def test_cuda_graphs_give_what_the_calls_give() -> None:
    weight = torch.randn(8, 8, device="cuda")
    calls = CapturedCalls(lambda x: (x @ weight).relu(), CudaGraphs(CUDA), calls_to_capture=1)
    for rows in (3, 5, 3, 7, 5, 3):
        x = torch.randn(rows, 8, device="cuda")
        torch.testing.assert_close(calls(x), (x @ weight).relu())


@pytest.mark.gpu
def test_a_call_that_waits_for_the_device_works_without_a_graph() -> None:
    calls = CapturedCalls(lambda x: x * x.max().item(), CudaGraphs(CUDA), calls_to_capture=1)
    for _ in range(2):
        x = torch.randn(5, device="cuda")
        torch.testing.assert_close(calls(x), x * x.max())
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    after = CapturedCalls(twice, CudaGraphs(CUDA), calls_to_capture=1)
    x = torch.randn(5, device="cuda")
    torch.testing.assert_close(after(x), 2 * x)
