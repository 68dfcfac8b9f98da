"""An answer on its way to the caller."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from app.library.network import ModelInfo
from app.pictures.encode import AnswerFormat


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An upscaled picture that is being sent."""

    pieces: AsyncGenerator[bytes, None]
    """The encoded file, in chunks. Not reading them pauses this picture only."""
    format: AnswerFormat
    model: ModelInfo
    frames: int
    """Pictures in the upload; the answer is the first of them."""
    timings_s: Callable[[], Mapping[str, float]]
    """Return the seconds of each stage so far."""
    progress: Callable[[], float]
    """Return the share of the picture that has been through the network, from 0 to 1."""
