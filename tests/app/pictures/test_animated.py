"""Answers that are animations: the time of each frame."""

import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from PIL import Image

from app.pictures.animated import UpscaledFrame, encoded_animation
from app.pictures.decode import decode
from app.pictures.encode import FORMATS
from app.pictures.layout import layout_of
from app.pictures.webp_animation import MAX_DURATION_MS
from tests.app.pictures.files import FILES, LIMITS

pytestmark = pytest.mark.anyio


async def times_of(form: str, *durations_ms: float) -> list[float]:
    """Return the times that Pillow reads from an animation."""
    layout = layout_of(decode(FILES["PNG"](), LIMITS), FORMATS[form], height=4, width=4)

    async def frames() -> AsyncIterator[UpscaledFrame]:
        for number, duration_ms in enumerate(durations_ms):
            yield UpscaledFrame(pixels=numpy.full((4, 4, 3), 40 * number, numpy.uint8), duration_ms=duration_ms)

    with ThreadPoolExecutor(1) as pool:
        parts = encoded_animation(frames(), layout, pool, count=len(durations_ms), plays=0)
        file = b"".join([part async for part in parts])
    image, times = Image.open(io.BytesIO(file)), []
    for number in range(len(durations_ms)):
        image.seek(number)
        image.load()
        times.append(float(image.info["duration"]))
    return times


async def test_rounded_times_do_not_drift() -> None:
    assert await times_of("webp", 100, 33.3, 33.3, 33.3) == [100, 33, 34, 33]


@pytest.mark.parametrize("long_ms", [17_000_000, 65_535_000])
async def test_a_time_that_a_webp_cannot_say_does_not_lengthen_the_frames_behind_it(long_ms: float) -> None:
    assert await times_of("webp", long_ms, 100, 40) == [MAX_DURATION_MS, 100, 40]
    assert await times_of("png", long_ms, 100, 40) == [long_ms, 100, 40]
