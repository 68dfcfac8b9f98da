"""An answer on its way to the caller."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from app.library.network import ModelInfo
from app.pictures.layout import AnswerFormat


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An upscaled picture that is being sent."""

    pieces: AsyncGenerator[bytes, None]
    """The encoded file, in chunks. Not reading them pauses this picture only."""
    format: AnswerFormat
    model: ModelInfo
    width: int
    height: int
    frames: int
    """Pictures in the upload."""
    shown: int = 1
    """Number of them that the answer shows."""
    left_out: Sequence[str] = ()
    """Names of properties of the upload that the answer's format cannot hold."""
    upload_format: str = ""
    """Format of the upload, where the answer could not have the same one."""
    timings_s: Callable[[], Mapping[str, float]]
    """Return the seconds of each stage so far."""
    progress: Callable[[], float]
    """Return the share of the picture that has been through the network, from 0 to 1."""

    @property
    def notes(self) -> Mapping[str, str]:
        """Headers that say how the answer differs from the upload, apart from its size."""
        notes = {}
        if self.frames > 1:
            notes["X-Frames"] = f"{self.shown} of {self.frames}"
        if self.left_out:
            notes["X-Left-Out"] = ", ".join(self.left_out)
        if self.upload_format:
            notes["X-Format"] = f"{self.format.name}; upload={self.upload_format}"
        return notes
