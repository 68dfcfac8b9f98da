"""Limits of a file: files at a limit pass, and larger ones are refused with a way out."""

from collections.abc import Callable

import pytest

from model.pictures.errors import OverLimit
from model.pictures.limits import Limits

LIMITS = Limits(max_picture_px=600, max_width_px=40, max_frames=3, max_metadata_bytes=50, max_expansion=10)

CHECKS: dict[str, tuple[Callable[[int], object], int, str]] = {
    "px": (lambda height: LIMITS.check_size(30, height, 100), 20, "30 x 21 = 630 px; the limit is 600 px; send"),
    "expansion": (
        lambda width: LIMITS.check_size(width, 1, 3),
        30,
        "31 px in 3 bytes; the limit is 10 px a byte; save it with less",
    ),
    "width": (LIMITS.check_width, 40, "41 px wide; the limit is 40 px; send parts"),
    "frames": (LIMITS.check_frames, 3, "more than 3 frames, which is the limit; send its first"),
    "metadata": (
        lambda size_bytes: LIMITS.check_metadata("its profile", size_bytes),
        50,
        "its profile has 51 bytes; the limit is 50 bytes; save the picture without it",
    ),
}


@pytest.mark.parametrize(("check", "limit", "text"), CHECKS.values(), ids=CHECKS.keys())
def test_the_limit_itself_passes_and_one_more_is_refused(check: Callable[[int], object], limit: int, text: str) -> None:
    check(limit)
    with pytest.raises(OverLimit, match=text):
        check(limit + 1)
