"""A network that is in memory: what callers may know of it, and what the device needs of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.pictures.picture import Pixels


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What callers may know of a model."""

    name: str
    sha256: str
    """Of the weight file; of a blend, of all that it was made of."""
    scale: int
    device: str
    precision: str
    licence: str
    """Empty where the weight file does not say."""
    metrics: Mapping[str, Mapping[str, float]]
    whole_picture_px: int
    """LR px of the largest picture that goes through whole; larger ones are streams."""
    state_bytes_per_column: int
    """Memory on the device that a stream holds for each px of its width and each plane."""

    @property
    def version(self) -> str:
        """Name and the first digits of the weights' hash: tells which weights made an answer."""
        return f"{self.name}@{self.sha256[:12]}"


class Upscaler(Protocol):
    """Turns pictures into larger ones. One thread at a time may use it."""

    @property
    def most_px(self) -> int:
        """LR px that it best takes at a time."""

    @property
    def memory_bytes(self) -> int:
        """What it holds at the moment: weights, those in reserve, and buffers; without the streams that are open."""

    def batch(self, pictures: Sequence[Pixels]) -> Sequence[Pixels]:
        """Upscale pictures (N, H, W, 3) together, whole."""

    def stream(self, picture: Pixels, band_rows: int) -> Iterator[Pixels]:
        """Upscale one picture in bands of rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """One version of a model, loaded and tested. Whoever holds it may go on using it, whatever replaces it."""

    info: ModelInfo
    upscaler: Upscaler
    speed: Sequence[tuple[int, float]] = ()
    """LR px and seconds of the pieces that warmed it up."""
