"""Waits with an end."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def is_set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for an event, for at most `seconds` if given; returns False after a timeout."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def done_before(end: Awaitable[Any], work: Awaitable[Result]) -> asyncio.Future[Result] | None:
    """Wait for some work or for `end`, whichever comes first. The other is cancelled; both have stopped on return.

    Returns:
        The work that is done, with its result or error; None where `end` came first.
    """
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        return working if working.done() else None
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)
