"""Looking into the folder of models again and again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def keep_looking(look: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Look until cancelled; a folder that cannot be read is logged once, and so is its return."""
    away = False
    while True:
        await asyncio.sleep(every_s)
        try:
            await look()
        except OSError as error:
            if not away:
                log.error("the folder of models cannot be read, all in memory serve on: %s", error)
            away = True
        else:
            if away:
                log.info("the folder of models can be read again")
            away = False
