"""The planned work on a picture: its job for the scheduler, and its memory."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from app.batching.job import Job
from app.errors import TooLarge
from app.library.network import ModelInfo
from app.options import UpscaleOptions
from app.pictures.decode import Header
from app.pictures.layout import AnswerFormat, Layout, chosen_format, layout_of
from app.pictures.picture import Picture
from app.sizing import Plan, Urgency, sample_bytes

BUCKET_STEP_PX = 32
"""On a GPU, small pictures share a batch when their sides agree after rounding up to a multiple of this."""

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
class Work:
    """The model, the steps, the options and the urgency of the work on a picture."""

    model: ModelInfo
    plan: Plan
    options: UpscaleOptions
    """With the formats that the answer can have."""
    urgency: Urgency
    whole_picture_px: int | None
    """Larger pictures are streams; by default what suits the model's device."""

    def job(self, inputs: Input, shape: tuple[int, int, int]) -> Job[Input]:
        """Make the scheduler's job, for at least one pass: a member of a batch if it is small, else a stream.

        Args:
            inputs: the engine's; None for a job that is only reserved.
            shape: planes, height and width.
        """
        model, plan, turns, edges = self.model, self.plan, self.options.ensemble_size, self.options.edges
        (planes, height, width), wraps = shape, edges == "wrap"
        if wraps:  # the rows and columns that repeat are work, too
            more_rows, more_columns = model.wrap_margin_px
            height, width = height + 2 * more_rows, width + 2 * more_columns
        px = turns * planes * height * width * plan.work
        job = functools.partial(
            Job[Input],
            input=inputs,
            kind=model.version,
            deadline_s=self.urgency.deadline_s,
            background=self.urgency.background,
        )
        if plan.passes > 1 or turns * height * width > (self.whole_picture_px or model.whole_picture_px):
            columns = planes * (width if turns == 1 else max(height, width))  # half of the turns swap the sides
            factors = [int(model.scale**done) for done in range(plan.passes)]  # of what each pass reads
            return job(
                cost_px=px,
                row_px=columns * factors[-1],
                min_rows=min(MIN_BAND_ROWS, height * factors[-1]),
                stream_bytes=(WRAP_STATES if wraps else 1) * columns * sum(factors) * model.state_bytes_per_column,
            )
        if model.device == "cpu":  # groups pictures of one size itself and pads nothing
            return job(cost_px=max(px, turns * MIN_COST_PX), bucket=("small", turns, edges))
        sides: tuple[int, ...] = tuple(-(-side // BUCKET_STEP_PX) * BUCKET_STEP_PX for side in (height, width))
        padded_px = turns * planes * sides[0] * sides[1]
        return job(cost_px=padded_px, bucket=(*sides, turns, edges), padding_px=padded_px - px)

    def layout(self, picture: Picture) -> Layout:
        """Return the layout of the answer to a picture, in the best of the formats."""
        options, plan = self.options, self.plan
        return layout_of(
            picture,
            chosen_format(options.formats, picture, bits=options.bits),
            height=plan.height,
            width=plan.width,
            bits=options.bits,
            quality=options.quality,
            compression=options.compression,
        )

    def fitted(self, header: Header, max_bytes: int) -> tuple[Self, int]:
        """Return the work with the formats that there is memory for, and an upper bound on what it takes.

        Args:
            max_bytes: memory of all pictures together.

        Raises:
            TooLarge: an answer in any of the formats takes more.
        """
        formats = [form for form in self.options.formats if self._with([form]).held_bytes(header) <= max_bytes]
        if not formats:
            ways = "leave ensemble out" if self.options.ensemble else "ask for format=png or for a smaller answer"
            least_bytes = min(self._with([form]).held_bytes(header) for form in self.options.formats)
            check_memory(least_bytes, max_bytes, f"{ways}, or send parts of the picture")
        fitted = self._with(formats)
        return fitted, fitted.held_bytes(header)

    def held_bytes(self, header: Header, *, whole_answer: bool = False) -> int:
        """Return an upper bound on the memory of a decoded picture, while it is upscaled and encoded.

        Args:
            whole_answer: it is held as a whole even if its format could be sent while it is made.
        """
        header, plan, options = self.options.held(header), self.plan, self.options
        picture_px, answer_px = header.height * header.width, plan.height * plan.width
        needed = sample_bytes(header) * picture_px + options.encoder_bytes_per_px * answer_px
        if self._is_at_once(header):
            needed += 2 * sample_bytes(header) * picture_px * plan.factor**2
        elif whole_answer or options.whole_answer:
            needed += ENCODING_COPIES * sample_bytes(header) * answer_px
        if (
            options.ensemble and plan.passes
        ):  # the sum of all turns in 32 bits; the upload upright and turned in 16 bits
            needed += 3 * header.planes * picture_px * (4 * plan.factor**2 + 2 * 2)
        return needed

    def _with(self, formats: Sequence[AnswerFormat]) -> Self:
        return replace(self, options=replace(self.options, formats=formats))

    def _is_at_once(self, header: Header) -> bool:
        """Return True if the network's result is held as a whole: as one of a batch, or since edges meet."""
        if not self.plan.passes:
            return False
        expected = self.job(None, (header.planes, header.height, header.width))
        return expected.bucket is not None or self.plan.is_held(self.options.edges, (header.height, header.width))


def check_memory(size_bytes: int, max_bytes: int, ways: str) -> None:
    """Check that one picture or animation does not take more memory than all together may have.

    Args:
        ways: ways out, for the text of the error.

    Raises:
        TooLarge: it does.
    """
    if size_bytes > max_bytes:
        raise TooLarge(
            f"the picture and its answer would take {size_bytes} bytes of memory; the limit is {max_bytes} bytes; "
            f"{ways}"
        )
