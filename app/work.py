"""The planned work on a picture, and its job for the scheduler."""

from dataclasses import dataclass
from typing import TypeVar

from app.batching.job import Job
from app.library.network import ModelInfo
from app.options import UpscaleOptions
from app.pictures.decode import Header
from app.sizing import Plan, Urgency, job_of

Input = TypeVar("Input")


@dataclass(frozen=True, kw_only=True)
class Work:
    """The model, the steps, the options and the urgency of the work on a picture."""

    model: ModelInfo
    plan: Plan
    options: UpscaleOptions
    """With the formats that the answer can have."""
    urgency: Urgency
    whole_picture_px: int | None
    """See `app.sizing.job_of`."""

    def job(self, inputs: Input, shape: tuple[int, int, int]) -> Job[Input]:
        """Make the scheduler's job, for at least one pass.

        Args:
            inputs: the engine's; None for a job that is only reserved.
            shape: planes, height and width.
        """
        return job_of(
            inputs,
            self.model,
            shape,
            passes=self.plan.passes,
            ensemble_size=self.options.ensemble_size,
            edges=self.options.edges,
            whole_picture_px=self.whole_picture_px,
            urgency=self.urgency,
        )

    def is_at_once(self, header: Header) -> bool:
        """Return True if the network's result is held as a whole; see `app.sizing.held_bytes`."""
        if not self.plan.passes:
            return False
        expected = self.job(None, (header.planes, header.height, header.width))
        return expected.bucket is not None or self.plan.is_held(self.options.edges, (header.height, header.width))
