"""One upscale request, whether its caller waits for it or it is kept as a job."""

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from app.animation import check_animation, check_answer, is_animated, upscale_animation
from app.answer import Answer
from app.errors import Unavailable, Unprocessable
from app.library.entry import Entry
from app.library.network import ModelInfo
from app.options import DEFAULT_OPTIONS, UpscaleOptions
from app.pictures.decode import Header
from app.pictures.encode import FORMATS
from app.pictures.size import Size
from app.record import current_record
from app.service import UpscaleService
from app.sizing import NO_DEADLINE, Urgency

PLAIN_OPTIONS = UpscaleOptions.__dataclass_fields__.keys() - {"size", "formats"}
"""Options whose values are JSON's own."""

Fidelity = Annotated[float, Field(ge=0, le=1)]


class OtherVersion(Unavailable):
    """A newer version of the service accepted the request, and this one does not know all of it."""

    def __init__(self, unknown: str) -> None:
        super().__init__(
            f"a newer version of the service accepted this job, and the version that runs now does not know {unknown}; "
            "send it without that, or again after the next update"
        )


@dataclass(frozen=True, kw_only=True)
class UpscaleRequest:
    """The model and the options that a caller asks for."""

    model: str | None = None
    """Name of the model; None for the default."""
    fidelity: Fidelity | None = None
    options: UpscaleOptions = DEFAULT_OPTIONS

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values.

        Options at their defaults are left out, so that versions which do not know a new option can read a request that
        does not use it.
        """
        options = {
            name: value
            for name in PLAIN_OPTIONS
            if (value := getattr(self.options, name)) != getattr(DEFAULT_OPTIONS, name)
        }
        formats = [form.name for form in self.options.formats]
        size = self.options.size.given
        return {"model": self.model, "fidelity": self.fidelity, **options, **size, "formats": formats}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore a request from `to_json`.

        Raises:
            OtherVersion: it has an option, or a value of one, that this version does not know.
        """
        if unknown := sorted(_unknown(values)):
            raise OtherVersion(", ".join(unknown))
        options = {name: value for name, value in values.items() if name in PLAIN_OPTIONS}
        size = {name: value for name, value in values.items() if name in Size.__dataclass_fields__}
        formats = [FORMATS[name] for name in values["formats"]]
        try:
            return cls(
                model=values["model"],
                fidelity=values["fidelity"],
                options=replace(DEFAULT_OPTIONS, **options, size=Size(**size), formats=formats),
            )
        except Unprocessable as error:  # each value is known, but not all of them together
            together = [f"{name}={value}" for name, value in {**options, **size}.items()]
            raise OtherVersion(" with ".join(sorted(together))) from error

    async def start(
        self,
        scope: AsyncExitStack,
        service: UpscaleService,
        picture: bytes,
        urgency: Urgency = NO_DEADLINE,
    ) -> Answer:
        """Start the work on a picture; cheap checks come first, so that only a picture can make a network load.

        Args:
            scope: holds everything that the answer needs until it is closed.

        Raises:
            ServiceError: see `app.errors`.
        """
        header = await self.check(service, picture)
        lease = service.library.lease(self.model, self.fidelity, deadline_s=urgency.deadline_s)
        network = await scope.enter_async_context(lease)
        upscale = partial(upscale_animation, service) if is_animated(header, self.options) else service.upscale
        upscaling = upscale(picture, header, network, self.options, urgency)
        return await scope.enter_async_context(upscaling)

    async def check(self, service: UpscaleService, picture: bytes) -> Header:
        """Check everything that can be checked without a network: the model and the header of the picture.

        Raises:
            ServiceError: see `app.errors`.
        """
        entry = self.check_model(service)
        current_record().model = entry.name
        header = await service.read_header(picture)
        self.options.of_upload(header)  # raises if no format fits
        check_animation(header, self.options, service.settings)
        if entry.info is not None:
            work = service.work(header, entry.info, self.options)
            if is_animated(header, self.options):
                check_answer(service, header, work)
            else:
                work.fitted(header, service.settings.max_picture_memory_bytes)
        return header

    def check_model(self, service: UpscaleService) -> Entry:
        """Return the model, which has a pair if the caller asks for a fidelity.

        Raises:
            NoSuchModel: there is no model of that name.
            Unprocessable: it has no pair.
        """
        if self.fidelity is not None:
            service.library.pair_for(self.model, self.fidelity)
        return service.library.find(self.model)

    def cost_px(self, service: UpscaleService, header: Header) -> int:
        """Return the LR px that a picture counts, as in `RequestRecord.cost_px`: its alpha adds none.

        While the model has never been loaded, one pass is assumed, and the rest is charged at the end.
        """
        info: ModelInfo | None = service.library.find(self.model).info
        work = 1 if info is None else max(1, service.plan(header, info, self.options).work)
        frames = header.frames if is_animated(header, self.options) else 1
        return frames * header.height * header.width * self.options.ensemble_size * work


def _unknown(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of a stored request that this version does not know, or whose values it would not accept."""
    types = _stored_types()
    for name, value in values.items():
        if name not in types:
            yield name
            continue
        try:
            types[name].validate_python(value, strict=True)
        except ValidationError:
            yield f"{name}={value}"


@cache
def _stored_types() -> Mapping[str, TypeAdapter[Any]]:
    """Return the type of each value of a stored request: the one by which `app.http.parameters` admits it."""
    hints = {
        name: hint
        for kind in (UpscaleRequest, UpscaleOptions, Size)
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if name not in {"options", "size"}
    }
    hints["formats"] = Annotated[list[Literal[tuple(FORMATS)]], Field(min_length=1)]  # type: ignore[misc]  # computed
    return {name: TypeAdapter(hint) for name, hint in hints.items()}
