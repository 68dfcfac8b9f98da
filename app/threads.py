"""Runs calls in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class WatchedPool(Executor):
    """A pool that keeps track of its calls that have not ended.

    Args:
        running: where it keeps them.
    """

    def __init__(self, pool: Executor, running: set[Future[Any]]) -> None:
        self._pool = pool
        self._running = running

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """See `concurrent.futures.Executor`."""
        call = self._pool.submit(fn, *args, **kwargs)
        self._running.add(call)
        call.add_done_callback(self._running.discard)
        return call


async def in_thread(pool: Executor, call: Callable[[], Result]) -> Result:
    """Run a call in a thread of the pool and return its result."""
    return await asyncio.get_running_loop().run_in_executor(pool, call)
