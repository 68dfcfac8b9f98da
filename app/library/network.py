"""A network in memory: facts for callers, and the interface for the device."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.pictures.picture import Pixels

Edges = Literal["auto", "wrap"]
"""Pixels that a network sees beyond the edges of a picture: `auto`, those that suit it; `wrap`, the opposite edge."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Facts about a model for callers and the scheduler."""

    name: str
    sha256: str
    """Hash of the weight file; for a blend, of all that it was made from."""
    scale: int
    device: str
    precision: str
    licence: str
    """Empty where the weight file does not say."""
    metrics: Mapping[str, Mapping[str, float]]
    whole_picture_px: int
    """LR px of the largest picture that runs whole; larger ones run as streams."""
    state_bytes_per_column: int
    """Memory on the device that a stream holds for each px of its width and each plane."""
    wrap_multiple_px: int = 1
    """Divisor of the sides of a picture for `edges=wrap`."""
    wrap_margin_px: tuple[int, int] = (0, 0)
    """Rows and columns of work that `edges=wrap` adds on each side."""

    @property
    def version(self) -> str:
        """Name and first digits of the weights' hash: identifies the weights that made an answer."""
        return f"{self.name}@{self.sha256[:12]}"


class DeviceUpscaler(Protocol):
    """Upscales pictures. Only one thread at a time may use it."""

    @property
    def most_px(self) -> int:
        """Maximum LR px to pass at a time."""

    @property
    def memory_bytes(self) -> int:
        """Memory of its weights, fallback weights and buffers, without open streams."""

    @property
    def convolution(self) -> str:
        """Code that convolves: `library` (oneDNN or cuDNN by PyTorch), `onednn`, `winograd`, `amx` or `fused`."""

    def batch(self, pictures: Sequence[Pixels], edges: Edges = "auto") -> Sequence[Pixels]:
        """Upscale whole pictures (N, H, W, 3) together."""

    def stream(self, picture: Pixels, band_rows: int, *, edges: Edges = "auto") -> Iterator[Pixels]:
        """Upscale one picture in bands of rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """One version of a model, loaded and tested; it stays usable after it has been replaced."""

    info: ModelInfo
    upscaler: DeviceUpscaler
    speed: Sequence[tuple[int, float]] = ()
    """LR px and seconds of the pieces that warmed it up."""
