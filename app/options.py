"""The options of a request, apart from the model."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from app.errors import Unprocessable
from app.library.network import Edges
from app.pictures.decode import Header
from app.pictures.encode import FORMATS, formats_like, suitable_formats
from app.pictures.layout import AnswerFormat, formats_of_size
from app.pictures.png_chunks import MetadataRule
from app.pictures.size import OWN_SIZE, Size
from app.png.deflate import Compression

ENSEMBLE_SIZE = 8
"""Turns of an ensemble: four rotations, each also mirrored."""

Quality = Annotated[int, Field(ge=1, le=100)]
Bits = Literal[8, 10, 12, 16]
Frames = Literal["first", "all"]


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """Options of one request, apart from the model.

    The types have the ranges that requests and stored jobs are checked by.

    Raises:
        Unprocessable: values contradict each other.
    """

    size: Size = OWN_SIZE
    """Size of the answer; by default the network's own."""
    formats: Sequence[AnswerFormat] = (FORMATS["png"],)
    """Accepted formats, the preferred one first; see `app.pictures.layout.chosen_format`."""
    quality: Quality | None = None
    """See `app.pictures.layout.Layout`."""
    same_format: bool = False
    """Answer in the format of the upload or the one nearest to it, whatever `formats` says."""
    bits: Bits | None = None
    """Bits of a channel; by default the upload's, as far as the format has them."""
    compression: Compression = "fast"
    """Effort of the compression of a PNG."""
    frames: Frames = "first"
    """Which pictures of an animation are upscaled."""
    metadata: MetadataRule = "keep"
    colour_lock: bool = False
    """Keep the low frequencies of the upload."""
    ensemble: bool = False
    """Return the mean over the picture's turns."""
    edges: Edges = "auto"
    """See `app.library.network.Edges`."""

    def __post_init__(self) -> None:
        if self.colour_lock and self.edges == "wrap":
            raise Unprocessable(
                "edges = wrap, colour_lock = true: the lock corrects colours in cells that do not meet at the edges; "
                "leave one of them out"
            )

    @property
    def ensemble_size(self) -> int:
        """Turns of the picture that go through the network."""
        return ENSEMBLE_SIZE if self.ensemble else 1

    def of_upload(self, header: Header) -> "UpscaleOptions":
        """Return the options for an upload, with the formats that its answer may have.

        Raises:
            Unprocessable: none of them has what the other options ask for.
        """
        formats = formats_like(header.format) if self.same_format else self.formats
        animated = self.frames == "all" and header.frames > 1
        return replace(self, formats=suitable_formats(formats, bits=self.bits, animated=animated))

    def of_size(self, height: int, width: int) -> "UpscaleOptions":
        """Return the options for an answer of some size, with the formats that allow it.

        Raises:
            Unprocessable: none does.
        """
        return replace(self, formats=formats_of_size(self.formats, height=height, width=width))

    def other_format(self, header: Header, form: AnswerFormat) -> str:
        """Return the upload's format, in lower case, if the answer should have it and has another; else empty."""
        uploaded = "jpeg" if header.format == "MPO" else header.format.lower()
        return uploaded if self.same_format and uploaded != form.name else ""

    def held(self, header: Header) -> Header:
        """Return the header of an upload with the depth that it has in memory."""
        return replace(header, bits=16) if (self.bits or 8) > 8 else header

    @property
    def encoder_bytes_per_px(self) -> int:
        """Memory that the encoder may need for each px of the answer, beyond the pixels; PNG holds any answer."""
        before_png = itertools.takewhile(lambda form: form.name != "png", self.formats)
        return max((form.encoder_bytes_per_px for form in before_png), default=0)

    @property
    def whole_answer(self) -> bool:
        """True if the answer may have a format that is encoded as a whole."""
        return self.formats[0].name != "png"


DEFAULT_OPTIONS = UpscaleOptions()
