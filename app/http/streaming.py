"""Streamed answers."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Send


class ClosedStream(StreamingResponse):
    """Starlette's response that also closes its iterator, even if the caller leaves or requests only the head.

    Otherwise a file stays open until it is garbage collected.
    """

    def __init__(self, parts: AsyncGenerator[Any, None], **options: Any) -> None:
        super().__init__(parts, **options)
        self._parts = parts

    async def stream_response(self, send: Send) -> None:
        """Send the answer."""
        async with aclosing(self._parts):
            await super().stream_response(send)
