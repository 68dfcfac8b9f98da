"""Streamed answers."""

from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from app.http.streaming import ClosedStream

pytestmark = pytest.mark.anyio


async def test_what_is_sent_is_closed_where_its_caller_leaves() -> None:
    closed = False

    async def parts() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            yield b"first"
        finally:
            closed = True

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await ClosedStream(parts()).stream_response(send)
    assert closed
