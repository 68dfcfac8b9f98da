"""Parameters of an upscale request."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from app.errors import Unprocessable
from app.http.accept import accepted_formats
from app.library.network import Edges
from app.options import Bits, Frames, Quality, UpscaleOptions
from app.pictures.encode import FORMATS, writable_formats
from app.pictures.layout import AnswerFormat
from app.pictures.png_chunks import MetadataRule
from app.pictures.size import Megapixels, Scale, SidePx, Size
from app.png.deflate import Compression
from app.upscaling import PLAIN_OPTIONS, Fidelity, UpscaleRequest


def _whole_number(value: object) -> object:
    """Convert digits from a query or form to int: pydantic does not convert strings for a Literal."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 3 else value


NUMBERS = ("scale", "width", "height", "max_side", "megapixels", "quality", "fidelity")


class Parameters(BaseModel):
    """Parameters of a request, in the query or as form fields."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Name of the model; by default the service's default model.")
    scale: Scale | None = Field(default=None, description="Factor of the answer's sides; by default the model's own.")
    width: SidePx | None = Field(
        default=None,
        description="Width of the answer in px; the height follows. With `height`: the largest that fits into both.",
    )
    height: SidePx | None = Field(default=None, description="Height of the answer in px; the width follows.")
    max_side: SidePx | None = Field(default=None, description="Longer side of the answer in px; the other one follows.")
    megapixels: Megapixels | None = Field(default=None, description="Size of the answer in millions of px.")
    format: Literal["png", "webp", "jpeg", "avif", "jxl", "same"] | None = Field(
        default=None,
        description="Format of the answer, `same` for the upload's; by default chosen from the `Accept` header. `jpg` "
        "means `jpeg`, and upper case is accepted.",
    )
    quality: Quality | None = Field(
        default=None,
        description="Quality of JPEG (default 95), WebP (default: lossless), AVIF and JPEG XL (default 90); without "
        "loss at 100, apart from JPEG.",
    )
    bits: Annotated[Bits, BeforeValidator(_whole_number)] | None = Field(
        default=None, description="Bits of a channel; by default the upload's, as far as the format has them."
    )
    compression: Compression = Field(
        default="fast", description="Of PNG: `small` takes many times as long for a smaller file."
    )
    frames: Frames = Field(
        default="first", description="Upscale the first picture of an animation, or all of them, to PNG or WebP."
    )
    metadata: MetadataRule = Field(
        default="keep",
        description="EXIF, XMP and resolution: `keep` all but the location, `keep-gps` keep all, or `strip` them.",
    )
    fidelity: Fidelity | None = Field(
        default=None,
        description="For a model that is one of a pair: 1 invents nothing, 0 is sharpest; in steps of 0.05.",
    )
    colour_lock: bool = Field(default=False, description="Keep the colours of large areas exactly as in the upload.")
    ensemble: bool = Field(
        default=False, description="Return the mean over the picture's eight turns, at eight times the cost."
    )
    edges: Edges = Field(
        default="auto",
        description="Pixels beyond the edges: those of the opposite edge (`wrap`), for textures that tile, or those "
        "that suit the model (`auto`).",
    )

    @field_validator(*NUMBERS, mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        """Refuse booleans in a JSON document, which pydantic converts to 0 and 1."""
        if isinstance(value, bool):
            raise PydanticCustomError("number", "Input should be a number")
        return value

    @field_validator("format", mode="before")
    @classmethod
    def _format_name(cls, value: object) -> object:
        """Accept names in upper case, and `jpg`."""
        name = value.lower() if isinstance(value, str) else value
        return "jpeg" if name == "jpg" else name

    @classmethod
    def of(cls, query: "Parameters", body: Mapping[str, object]) -> Self:
        """Join the parameters of the query with those of the body, which override them.

        Raises:
            RequestValidationError: a parameter of the body is unknown or out of range.
        """
        try:
            return cls.model_validate(query.model_dump(exclude_unset=True) | dict(body))
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error

    def request(self, accept: str) -> UpscaleRequest:
        """Return the request that the parameters describe.

        Args:
            accept: the header Accept, which chooses the format if no parameter does.

        Raises:
            NotAcceptable: the header rules out every format.
            Unprocessable: parameters contradict each other.
        """
        values = self.model_dump()  # named like the options, apart from `format`
        size = Size(**{name: values[name] for name in Size.__dataclass_fields__})
        plain = {name: values[name] for name in PLAIN_OPTIONS & values.keys()}
        options = UpscaleOptions(size=size, formats=self._formats(accept), same_format=self.format == "same", **plain)
        return UpscaleRequest(model=self.model, fidelity=self.fidelity, options=options)

    def _formats(self, accept: str) -> Sequence[AnswerFormat]:
        if self.format in (None, "same"):
            return accepted_formats("" if self.format else accept)
        form = FORMATS[self.format]
        if form not in writable_formats():
            raise Unprocessable(
                f"format={form.name}: this service has no encoder for it, which its operator installs with the extra "
                f"`{form.name}`; ask for another format"
            )
        return [form]
