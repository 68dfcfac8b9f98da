"""Sizes of a picture and its answer, and the passes through the network from one to the other."""

import math
from dataclasses import dataclass
from typing import Self

from app.errors import TooLarge, Unprocessable
from app.library.network import Edges, ModelInfo
from app.pictures.decode import Header
from app.pictures.size import MAX_SCALE, Size
from app.settings import Settings

DECODING_COPIES = 2.5
"""Upper bound on the memory that decoding takes, in copies of the picture."""

SPREAD_BYTES_PER_PX = 14
"""Memory of the colours that are spread into clear pixels (`app.pictures.picture.planes_of`), beyond these copies."""


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
        return sum(self.scale ** (2 * done) for done in range(self.passes))


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

    deadline_s: float | None = None
    """On the clock of `time.monotonic`; work is cancelled when it passes."""
    background: bool = False
    """Nobody waits for the answer, so memory, threads and device go to others first."""


NO_DEADLINE = Urgency()


def decoding_bytes(header: Header) -> int:
    """Return an upper bound on a picture's memory while it is decoded."""
    spread_bytes = SPREAD_BYTES_PER_PX if header.planes == 2 else 0
    return math.ceil((DECODING_COPIES * sample_bytes(header) + spread_bytes) * header.height * header.width)


def sample_bytes(header: Header) -> int:
    """Return the bytes of a pixel of all planes, as it is in memory."""
    return 3 * header.planes * header.bits // 8
