"""One upscale request, whether its caller waits for it or it is kept as a job."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

from app.errors import Unprocessable
from app.pictures.decode import Header
from app.pictures.encode import FORMATS
from app.record import current_record
from app.service import DEFAULT_OPTIONS, Answer, UpscaleOptions, UpscaleService
from app.sizing import check_edges


@dataclass(frozen=True, kw_only=True)
class UpscaleRequest:
    """The model and the options that a caller asks for."""

    model: str | None = None
    """Name of the model; None for the default."""
    fidelity: float | None = None
    options: UpscaleOptions = DEFAULT_OPTIONS

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        options = {name: getattr(self.options, name) for name in UpscaleOptions.__dataclass_fields__}
        formats = [form.name for form in self.options.formats]
        return {"model": self.model, "fidelity": self.fidelity} | options | {"formats": formats}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore a request from `to_json`."""
        options = {name: value for name, value in values.items() if name not in ("model", "fidelity", "formats")}
        formats = [FORMATS[name] for name in values["formats"]]
        return cls(
            model=values["model"],
            fidelity=values["fidelity"],
            options=replace(DEFAULT_OPTIONS, **options, formats=formats),
        )

    async def start(
        self,
        scope: AsyncExitStack,
        service: UpscaleService,
        picture: bytes,
        *,
        deadline_s: float | None = None,
        background: bool = False,
    ) -> Answer:
        """Start the work on a picture; cheap checks come first, so that only a picture can make a network load.

        Args:
            scope: holds everything that the answer needs until it is closed.
            deadline_s, background: see `UpscaleService.upscale`.

        Raises:
            ServiceError: see `app.errors`.
        """
        header = await self.check(service, picture)
        lease = service.library.lease(self.model, self.fidelity, deadline_s=deadline_s)
        network = await scope.enter_async_context(lease)
        self._check_scale(network.info.name, network.info.scale)
        upscaling = service.upscale(
            picture, header, network, self.options, deadline_s=deadline_s, background=background
        )
        return await scope.enter_async_context(upscaling)

    async def check(self, service: UpscaleService, picture: bytes) -> Header:
        """Check everything that can be checked without a network: the model's name and the header of the picture.

        Raises:
            ServiceError: see `app.errors`.
        """
        entry = service.library.find(self.model)
        current_record().model = entry.name
        header = await service.read_header(picture)
        if entry.info is not None:
            self._check_scale(entry.info.name, entry.info.scale)
            check_edges(self.options.edges, (header.height, header.width), entry.info)
        return header

    def _check_scale(self, name: str, scale: int) -> None:
        if self.options.scale and self.options.scale > scale:
            raise Unprocessable(f"scale = {self.options.scale:g}: {name} upscales by {scale}; ask for 1 to {scale}")
