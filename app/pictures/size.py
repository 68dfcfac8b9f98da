"""The size of an answer, as its caller asks for it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from app.errors import Unprocessable

MEGAPIXEL = 1_000_000

MAX_SCALE = 16
"""Maximum factor of an answer: what two passes of a x4 model make of a picture."""

MAX_SIDE_PX = 1_000_000
"""Maximum side, which keeps numbers in errors short; `ESRGAN_MAX_ANSWER_PX` is the effective limit."""

Scale = Annotated[float, Field(gt=0, le=MAX_SCALE)]
SidePx = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Megapixels = Annotated[float, Field(gt=0, le=MAX_SIDE_PX)]

TOGETHER = {"width", "height"}
"""The only parameters of a size that may be sent together."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A requested size; the network's own where nothing is set. Answers keep the proportions of their pictures.

    Raises:
        Unprocessable: values contradict each other.
    """

    scale: Scale | None = None
    """Factor of both sides."""
    width: SidePx | None = None
    """Exact width in px; with a height, the answer is the largest that fits into both."""
    height: SidePx | None = None
    max_side: SidePx | None = None
    """Exact length of the longer side in px."""
    megapixels: Megapixels | None = None
    """Millions of px, as nearly as whole sides allow."""

    def __post_init__(self) -> None:
        given = self.given
        if len(given) > 1 and given.keys() != TOGETHER:
            raise Unprocessable(
                f"{self} contradict each other; send one of scale, width, height, max_side and megapixels, or width "
                "and height together"
            )

    @property
    def given(self) -> Mapping[str, float]:
        """The values that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        return " and ".join(f"{name} = {value:g}" for name, value in self.given.items())

    def of(self, height: int, width: int, default_scale: int) -> tuple[int, int]:
        """Return height and width of the answer, at least 1 px each.

        Args:
            height, width: of the upright picture.
            default_scale: where nothing is set.
        """
        box_height, box_width = self.height, self.width
        if self.max_side is not None:
            box_height, box_width = (self.max_side, None) if height > width else (None, self.max_side)
        if box_width is not None and (box_height is None or box_width * height <= box_height * width):
            return _in_proportion(height, box_width, width), box_width
        if box_height is not None:
            return box_height, _in_proportion(width, box_height, height)
        scale = default_scale if self.scale is None else self.scale
        if self.megapixels is not None:
            scale = math.sqrt(self.megapixels * MEGAPIXEL / (height * width))
        return _scaled(height, scale), _scaled(width, scale)


OWN_SIZE = Size()
"""The size that the network makes."""


def _in_proportion(side_px: int, other_wanted_px: int, other_px: int) -> int:
    """Return side * wanted / other in whole px, halves rounded up."""
    return max(1, (2 * side_px * other_wanted_px + other_px) // (2 * other_px))


def _scaled(side_px: int, scale: float) -> int:
    """Return side * scale in whole px, halves rounded up as by JavaScript's Math.round: callers can predict it."""
    return max(1, math.floor(side_px * scale + 0.5))
