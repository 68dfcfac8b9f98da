"""The options of a request, apart from the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.library.network import Edges
from app.pictures.encode import FORMATS, AnswerFormat
from app.pictures.metadata import MetadataRule
from app.pictures.size import OWN_SIZE, Size

ENSEMBLE_RUNS = 8
"""Turns of an ensemble: four rotations, each also mirrored."""


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """Options of one request, apart from the model."""

    size: Size = OWN_SIZE
    """Size of the answer; by default the network's own."""
    formats: Sequence[AnswerFormat] = (FORMATS["png"],)
    """Accepted formats, the preferred one first; see `app.pictures.encode.chosen_format`."""
    quality: int | None = None
    """From 1 to 100; see `app.pictures.encode.encoded`."""
    metadata: MetadataRule = "keep"
    colour_lock: bool = False
    """Keep the low frequencies of the upload."""
    ensemble: bool = False
    """Return the mean over the picture's turns."""
    edges: Edges = "auto"
    """See `app.library.network.Edges`."""

    @property
    def runs(self) -> int:
        """Turns of the picture that go through the network."""
        return ENSEMBLE_RUNS if self.ensemble else 1

    @property
    def whole_answer(self) -> bool:
        """True where the answer may have a format that is encoded as a whole."""
        return self.formats[0].name != "png"


DEFAULT_OPTIONS = UpscaleOptions()
