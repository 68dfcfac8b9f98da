"""Parameters of requests and jobs."""

from collections.abc import Mapping
from typing import Literal, TypedDict


class Parameters(TypedDict, total=False):
    """Parameters of an upscale request; see docs/api.md. The service has defaults for missing ones."""

    model: str
    scale: float
    width: int
    height: int
    max_side: int
    megapixels: float
    format: Literal["png", "webp", "jpeg", "avif", "jxl", "same"]
    quality: int
    bits: Literal[8, 10, 12, 16]
    compression: Literal["fast", "small"]
    frames: Literal["first", "all"]
    metadata: Literal["keep", "keep-gps", "strip"]
    fidelity: float
    colour_lock: bool
    ensemble: bool
    edges: Literal["auto", "wrap"]


class JobParameters(Parameters, total=False):
    """Parameters of a job; see docs/jobs.md."""

    webhook: str
    webhook_events: str


def query_of(parameters: Parameters) -> Mapping[str, str]:
    """Return the query, or the fields of a form, for parameters."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in parameters.items()}
