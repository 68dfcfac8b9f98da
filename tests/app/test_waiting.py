"""Waits with an end."""

import asyncio

import pytest

from app.waiting import done_before, is_set_within

pytestmark = pytest.mark.anyio


async def test_an_event_that_is_set_ends_the_wait() -> None:
    event = asyncio.Event()
    waits = [asyncio.create_task(is_set_within(event, seconds)) for seconds in (60, None)]
    await asyncio.sleep(0)
    event.set()
    assert await asyncio.gather(*waits, is_set_within(event, 0)) == [True] * 3


async def test_a_wait_has_an_end() -> None:
    assert not await is_set_within(asyncio.Event(), 0.01)


async def test_work_is_done_before_an_end_that_never_comes() -> None:
    end = asyncio.create_task(asyncio.Event().wait())
    done = await done_before(end, asyncio.sleep(0, "made"))
    assert done is not None
    assert done.result() == "made"
    assert end.cancelled()


async def test_work_has_stopped_when_its_end_came_first() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    assert await done_before(asyncio.sleep(0), work()) is None
    assert cleaned
