"""Waits with a limit."""

import asyncio

import pytest

from app.waiting import is_set_within

pytestmark = pytest.mark.anyio


async def test_an_event_that_is_set_ends_the_wait() -> None:
    event = asyncio.Event()
    waits = [asyncio.create_task(is_set_within(event, seconds)) for seconds in (60, None)]
    await asyncio.sleep(0)
    event.set()
    assert await asyncio.gather(*waits, is_set_within(event, 0)) == [True] * 3


async def test_a_wait_has_an_end() -> None:
    assert not await is_set_within(asyncio.Event(), 0.01)
