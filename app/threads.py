"""Runs calls in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(pool: Executor, call: Callable[[], Result]) -> Result:
    """Run a call in a thread of the pool and return its result."""
    return await asyncio.get_running_loop().run_in_executor(pool, call)
