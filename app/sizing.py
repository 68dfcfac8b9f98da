"""Sizes of a picture and its answer: passes through the network, cost for the scheduler, memory."""

import functools
import math
from dataclasses import dataclass
from typing import Self, TypeVar

from app.batching.job import Job
from app.errors import TooLarge, Unprocessable
from app.library.network import Edges, ModelInfo
from app.pictures.decode import Header
from app.pictures.size import MAX_SCALE, Size
from app.settings import Settings

BUCKET_STEP_PX = 32
"""On a GPU, small pictures share a batch when their sides agree after rounding up to a multiple of this."""

DECODING_COPIES = 2.5
"""Upper bound on the memory that decoding takes, in copies of the picture."""

ENCODING_COPIES = 2
"""Copies of an answer that is encoded as a whole: its pixels, and the encoder's output."""

MIN_BAND_ROWS = 8
"""Minimum rows of a stream's bands: below this, each pixel takes noticeably longer (decision 7)."""

MIN_COST_PX = 32 * 32
"""Minimum cost of a picture: below this size, overhead dominates."""

WRAP_STATES = 2
"""Memory of a stream whose edges wrap, relative to one whose edges do not: it also keeps its first rows to the end."""

Input = TypeVar("Input")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps to an answer's size: passes of the network, each over the result of the one before, then a resize."""

    height: int
    """Height of the answer in px."""
    width: int
    scale: int
    """Factor of one pass."""
    passes: int
    """0 for an answer that is smaller than the picture, which is only resized."""

    @classmethod
    def of(cls, size: Size, shape: tuple[int, int], model: ModelInfo, settings: Settings) -> Self:
        """Plan as few passes as reach the size, but at least one unless the picture gets smaller.

        Args:
            shape: height and width of the upright picture.

        Raises:
            Unprocessable: the size is too far from the picture's.
            TooLarge: the answer, or what a pass would have to read, exceeds a limit.
        """
        height, width = size.of(*shape, model.scale)
        _check_scale(size, (height, width), shape, model)
        answer = f"the answer would have {width} x {height} px"
        if height * width > settings.answer_px_limit:
            raise TooLarge(
                f"{answer} = {height * width} px; the limit is {settings.answer_px_limit} px; ask for a smaller one"
            )
        passes = 0 if (height, width) != shape and height <= shape[0] and width <= shape[1] else 1
        while passes and any(model.scale**passes * now < px for now, px in zip(shape, (height, width), strict=True)):
            passes += 1
        plan = cls(height=height, width=width, scale=model.scale, passes=passes)
        if passes > 1 and shape[1] * plan.last_pass_factor > settings.max_width_px:
            raise TooLarge(
                f"{answer}: {model.name} would read its own result, {shape[1] * plan.last_pass_factor} px wide; "
                f"the limit is {settings.max_width_px} px; ask for scale = {model.scale} or less, or send parts of it"
            )
        return plan

    @property
    def factor(self) -> int:
        """Factor of all passes together."""
        return int(self.scale**self.passes)

    @property
    def last_pass_factor(self) -> int:
        """Factor of the picture that the last pass reads."""
        return int(self.scale ** max(0, self.passes - 1))

    def is_held(self, edges: Edges, shape: tuple[int, int]) -> bool:
        """Return True if a whole result of the network is held, since its first rows depend on its last ones.

        Args:
            shape: see `Plan.of`.
        """
        resized = (self.height, self.width) != (self.factor * shape[0], self.factor * shape[1])
        return edges == "wrap" and (self.passes > 1 or resized)

    @property
    def work(self) -> int:
        """LR px of all passes for each px of the picture."""
        return _work(self.scale, self.passes)


def _work(scale: int, passes: int) -> int:
    return sum(scale ** (2 * done) for done in range(passes))


def _check_scale(size: Size, wanted: tuple[int, int], shape: tuple[int, int], model: ModelInfo) -> None:
    limit = MAX_SCALE if model.scale > 1 else 1
    if all(px <= limit * now for px, now in zip(wanted, shape, strict=True)):
        return
    if limit == 1:
        raise Unprocessable(f"{size}: {model.name} does not enlarge; ask for scale = 1 or less, or for another model")
    raise Unprocessable(
        f"{size}: the answer would have {wanted[1]} x {wanted[0]} px; the limit is {limit} times the picture's "
        f"{shape[1]} x {shape[0]} px; ask for less"
    )


def check_edges(edges: Edges, shape: tuple[int, int], model: ModelInfo) -> None:
    """Check that a picture can be upscaled with these edges.

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


@dataclass(frozen=True, kw_only=True)
class Urgency:
    """Deadline and priority of a picture."""

    deadline_s: float | None
    """On the clock of `time.monotonic`."""
    background: bool


NO_DEADLINE = Urgency(deadline_s=None, background=False)


def job_of(
    picture: Input,
    model: ModelInfo,
    shape: tuple[int, int, int],
    *,
    passes: int = 1,
    ensemble_size: int = 1,
    edges: Edges = "auto",
    whole_picture_px: int | None = None,
    urgency: Urgency = NO_DEADLINE,
) -> Job[Input]:
    """Make the scheduler's job for a picture: a member of a batch where it is small, else a stream.

    Args:
        picture: the engine's input; None for a job that is only reserved.
        shape: planes, height and width.
        passes: see `Plan.passes`; at least one.
        ensemble_size: turns of the picture that go through the network; see `app.options.UpscaleOptions`.
        edges: `wrap` adds the work on the rows and columns that repeat.
        whole_picture_px: larger pictures are streams; by default what suits the model's device.
    """
    planes, height, width = shape
    wraps = edges == "wrap"
    if wraps:
        more_rows, more_columns = model.wrap_margin_px
        height, width = height + 2 * more_rows, width + 2 * more_columns
    px = ensemble_size * planes * height * width * _work(model.scale, passes)
    job = functools.partial(
        Job[Input],
        input=picture,
        kind=model.version,
        deadline_s=urgency.deadline_s,
        background=urgency.background,
    )
    if passes > 1 or ensemble_size * height * width > (whole_picture_px or model.whole_picture_px):
        # Half of an ensemble's turns swap the sides.
        columns = planes * (width if ensemble_size == 1 else max(height, width))
        factors = [int(model.scale**done) for done in range(passes)]  # of what each pass reads
        return job(
            cost_px=px,
            row_px=columns * factors[-1],
            min_rows=min(MIN_BAND_ROWS, height * factors[-1]),
            stream_bytes=(WRAP_STATES if wraps else 1) * columns * sum(factors) * model.state_bytes_per_column,
        )
    if model.device == "cpu":  # groups pictures of one size itself and pads nothing
        return job(cost_px=max(px, ensemble_size * MIN_COST_PX), bucket=("small", ensemble_size, edges))
    sides: tuple[int, ...] = tuple(-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (height, width))
    padded_px = ensemble_size * planes * sides[0] * sides[1]
    return job(cost_px=padded_px, bucket=(*sides, ensemble_size, edges), padding_px=padded_px - px)


def decoding_bytes(header: Header) -> int:
    """Return an upper bound on a picture's memory while it is decoded."""
    return math.ceil(DECODING_COPIES * _sample_bytes(header) * header.height * header.width)


def held_bytes(
    header: Header,
    plan: Plan,
    *,
    at_once: bool = False,
    whole_answer: bool = False,
    encoder_bytes_per_px: int = 0,
    ensemble: bool = False,
) -> int:
    """Return an upper bound on the memory of a decoded picture, while it is upscaled and encoded.

    Args:
        at_once: the network's result is held as a whole: as one of a batch, or since edges meet.
        whole_answer: it is encoded as a whole; otherwise the answer is sent while it is made, and never held.
        encoder_bytes_per_px: of the answer; see `app.options.UpscaleOptions`.
        ensemble: adds the sum of all turns in 32 bits, and the upload upright and turned in 16 bits.
    """
    picture_bytes = _sample_bytes(header) * header.height * header.width
    answer_bytes = 0
    if at_once:
        answer_bytes = 2 * picture_bytes * plan.factor**2
    elif whole_answer:
        answer_bytes = ENCODING_COPIES * _sample_bytes(header) * plan.height * plan.width
    turns_bytes = 3 * header.planes * header.height * header.width * (4 * plan.factor**2 + 2 * 2) if ensemble else 0
    return picture_bytes + answer_bytes + turns_bytes + encoder_bytes_per_px * plan.height * plan.width


def _sample_bytes(header: Header) -> int:
    return 3 * header.planes * header.bits // 8
