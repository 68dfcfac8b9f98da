"""Sizes of a picture: its cost for the scheduler, and the memory that it needs."""

import functools
import math
from typing import TypeVar

from app.batching.job import Job
from app.errors import Unprocessable
from app.library.network import Edges, ModelInfo
from app.pictures.decode import Header

BUCKET_STEP_PX = 32
"""On a GPU, small pictures share a batch when their sides agree after rounding up to a multiple of this."""

DECODING_COPIES = 2.5
"""Upper bound on the memory that decoding takes, in copies of the picture."""

MIN_BAND_ROWS = 8
"""Minimum rows of a stream's bands: below this, each pixel takes noticeably longer (decision 7)."""

MIN_COST_PX = 32 * 32
"""Minimum cost of a picture: below this size, overhead dominates."""

WRAP_STATES = 2
"""Memory of a stream whose edges wrap, in those of one whose edges do not: it also keeps its first rows to the end."""

Input = TypeVar("Input")


def scaled_px(side_px: int, scale: float) -> int:
    """Return a side of the answer, halves rounded up as by JavaScript's Math.round, so that callers can predict it."""
    return math.floor(side_px * scale + 0.5)


def check_edges(edges: Edges, shape: tuple[int, int], model: ModelInfo) -> None:
    """Check that a picture can have these edges.

    Args:
        shape: height and width of the upright picture.

    Raises:
        Unprocessable: it is to wrap, and the network's grid does not divide its sides.
    """
    multiple, (height, width) = model.wrap_multiple_px, shape
    if edges == "wrap" and (height % multiple or width % multiple):
        raise Unprocessable(
            f"edges = wrap: the picture has {width} x {height} px; {model.name} sees squares of {multiple} px, which "
            f"would not meet at its edges; send sides that are multiples of {multiple}, or name another model"
        )


def job_of(
    picture: Input,
    model: ModelInfo,
    shape: tuple[int, int, int],
    *,
    runs: int = 1,
    edges: Edges = "auto",
    whole_picture_px: int | None = None,
    deadline_s: float | None = None,
    background: bool = False,
) -> Job[Input]:
    """Make the scheduler's job for a picture: a member of a batch where it is small, else a stream.

    Args:
        picture: the engine's input; None for a job that is only reserved.
        shape: planes, height and width.
        runs: passes through the network; see `app.service.UpscaleOptions.runs`.
        edges: `wrap` adds the work on the rows and columns that repeat.
        whole_picture_px: larger pictures are streams; by default what suits the model's device.
        deadline_s: on the scheduler's clock.
        background: see `Job.background`.
    """
    planes, height, width = shape
    wraps = edges == "wrap"
    if wraps:
        more_rows, more_columns = model.wrap_margin_px
        height, width = height + 2 * more_rows, width + 2 * more_columns
    px = runs * planes * height * width
    job = functools.partial(Job[Input], input=picture, kind=model.version, deadline_s=deadline_s, background=background)
    if runs * height * width > (whole_picture_px or model.whole_picture_px):
        row_px = planes * (width if runs == 1 else max(height, width))  # half of an ensemble's turns swap the sides
        return job(
            cost_px=px,
            row_px=row_px,
            min_rows=min(MIN_BAND_ROWS, height),
            stream_bytes=(WRAP_STATES if wraps else 1) * row_px * model.state_bytes_per_column,
        )
    if model.device == "cpu":  # groups pictures of one size itself and pads nothing
        return job(cost_px=max(px, runs * MIN_COST_PX), bucket=("small", runs, edges))
    sides: tuple[int, ...] = tuple(-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (height, width))
    padded_px = runs * planes * sides[0] * sides[1]
    return job(cost_px=padded_px, bucket=(*sides, runs, edges), padding_px=padded_px - px)


def memory_bytes(header: Header, scale: int, *, by_rows: bool = False, ensemble: bool = False) -> int:
    """Return an upper bound on a picture's memory: while it is decoded, or later upscaled and encoded.

    Args:
        scale: of the network.
        by_rows: the answer is sent while it is made, and never held as a whole.
        ensemble: adds the sum of all turns in 32 bits, and the upload upright and turned in 16 bits.
    """
    samples = 3 * header.planes * header.height * header.width
    turns_bytes = samples * (4 * scale**2 + 2 * 2) if ensemble else 0
    copies = DECODING_COPIES if by_rows else 1 + 2 * scale**2
    return math.ceil(samples * header.bits // 8 * copies) + turns_bytes
