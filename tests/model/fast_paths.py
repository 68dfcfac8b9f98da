"""The fast paths of a GPU, imitated on a CPU; some fail."""

from collections.abc import Callable, Collection, Iterator, Sequence

import pytest
import torch

from model.edges import Edges
from model.transfer import Pixels
from model.upscaler import Upscaler

FAST_PATHS = ("graphs", "kernel", "pinned")

LOST_KERNEL = RuntimeError("Triton Error [CUDA]: invalid argument")

Fails = Callable[[frozenset[str], torch.dtype], Exception | bool]


class FakeFastPaths:
    """Gives the upscaler the fast paths of a GPU, some broken.

    Args:
        fails: called with the paths in use and the format; returns an error to raise, or True for a wrong picture,
            which batches make and streams do not.

    Attributes:
        from_band: first band of a stream that fails.
        calls: batches and bands that ran or failed, by the paths that they used.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Fails = lambda used, dtype: False) -> None:
        self.fails = fails
        self.from_band = 0
        self.calls: list[frozenset[str]] = []
        used: dict[int, frozenset[str]] = {}
        batch, stream, set_up = Upscaler.batch, Upscaler.stream, Upscaler.disable_only

        def disable_only(upscaler: Upscaler, disabled: Collection[str]) -> None:
            set_up(upscaler, ())
            used[id(upscaler)] = frozenset(FAST_PATHS).difference(disabled)

        def fault(upscaler: Upscaler, paths: frozenset[str]) -> bool:
            self.calls.append(paths)
            found = self.fails(paths, upscaler.dtype)
            if isinstance(found, Exception):
                raise found
            return found

        def faulty_batch(upscaler: Upscaler, pictures: Sequence[Pixels], edges: Edges = "auto") -> list[Pixels]:
            wrong = fault(upscaler, used[id(upscaler)])
            return [255 - made if wrong else made for made in batch(upscaler, pictures, edges)]

        def faulty_stream(
            upscaler: Upscaler, picture: Pixels, band_rows: int = 4, *, edges: Edges = "auto"
        ) -> Iterator[Pixels]:
            paths = used[id(upscaler)]  # a stream keeps those that it began with
            for number, rows in enumerate(stream(upscaler, picture, band_rows, edges=edges)):
                if number >= self.from_band:
                    fault(upscaler, paths)
                yield rows

        monkeypatch.setattr("model.upscaler.best_dtype", lambda net, device: torch.bfloat16)
        monkeypatch.setattr(Upscaler, "fast_paths", property(lambda upscaler: FAST_PATHS))
        monkeypatch.setattr(Upscaler, "disable_only", disable_only)
        monkeypatch.setattr(Upscaler, "batch", faulty_batch)
        monkeypatch.setattr(Upscaler, "stream", faulty_stream)
