"""Polls the folder of models."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def poll(refresh: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Call `refresh` until cancelled; an unreadable folder is logged once, and so is its return."""
    away = False
    while True:
        await asyncio.sleep(every_s)
        try:
            await refresh()
        except OSError as error:
            if not away:
                log.error("cannot read the model folder; loaded models keep serving: %s", error)
            away = True
        else:
            if away:
                log.info("the model folder can be read again")
            away = False
