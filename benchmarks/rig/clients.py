"""Clients of a service, good and bad, that call it at the same time until they are stopped."""

import asyncio
import io
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import numpy
from PIL import Image

from benchmarks.rig.traffic import uploads_of
from model.transfer import Pixels

MAX_STAY_S = 0.5
"""Maximum time until a client disconnects at random."""

ANSWER_TIMEOUT_S = 120
"""Timeout of each answer; a slower one counts as a hang."""

REFUSALS = frozenset({429, 503, 504})
"""Statuses that a valid picture may get apart from 200."""


@dataclass(kw_only=True)
class Answers:
    """Counts of the answers, and everything wrong with them."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Descriptions of wrong answers."""
    left: int = 0
    """Clients that did not wait for an answer."""


class Clients:
    """Clients of a service; each sends its next request when the last has ended.

    Args:
        port: port of the service on this machine.
        sides: sides in px of the square pictures that they send.

    Attributes:
        answers: expected pixels by number of the upload, compared within one level; an unknown one is filled in from
            the first answer.
    """

    def __init__(self, port: int, sides: Sequence[int], *, seed: int = 0) -> None:
        self.seen = Answers()
        self.uploads = uploads_of(sides)
        self.answers: dict[int, Pixels] = {}
        self._port = port
        self._chance = random.Random(seed)
        self._stop = asyncio.Event()

    async def run(self, *, good: int, leaving: int, stalling: int, rubbish: int, until: Awaitable[object]) -> None:
        """Run that number of clients of each kind until `until` is done; then wait for their last calls."""
        self._stop.clear()
        kinds = [self._good] * good + [self._leave] * leaving + [self._stall] * stalling + [self._rubbish] * rubbish
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{self._port}", timeout=ANSWER_TIMEOUT_S, limits=limits, trust_env=False
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for call in kinds:
                group.create_task(self._repeat(call, client))
            await until
            self._stop.set()

    async def _repeat(self, call: Callable[[httpx.AsyncClient], Awaitable[None]], client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            try:
                await call(client)
            except (httpx.TransportError, OSError) as error:
                self.seen.wrong.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)

    async def _good(self, client: httpx.AsyncClient) -> None:
        n = self._chance.randrange(len(self.uploads))
        answer = await client.post("/v1/upscale", content=self.uploads[n].png)
        self.seen.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            await asyncio.to_thread(self._compare, n, answer.content)
        elif answer.status_code not in REFUSALS:
            self.seen.wrong.append(f"{self.uploads[n].side} px: {answer.status_code} {answer.text[:200]}")
        else:
            await asyncio.sleep(0.2)

    def _compare(self, n: int, png: bytes) -> None:
        pixels = numpy.asarray(Image.open(io.BytesIO(png)))
        known = self.answers.setdefault(n, pixels)
        if pixels.shape != known.shape or numpy.abs(pixels.astype(int) - known).max() > 1:
            self.seen.wrong.append(f"{self.uploads[n].side} px: the pixels are not those of this picture")

    async def _rubbish(self, client: httpx.AsyncClient) -> None:
        png = self._chance.choice(self.uploads).png
        headers = {"content-type": "application/octet-stream"}
        kind = self._chance.randrange(5)
        if kind == 0:
            body = self._chance.randbytes(self._chance.randrange(1, 5000))
        elif kind == 1:
            body = png[: self._chance.randrange(20, len(png) - 20)]
        elif kind == 2:
            at = self._chance.randrange(8, len(png) - 4)
            body = png[:at] + self._chance.randbytes(4) + png[at + 4 :]
        elif kind == 3:
            body, headers = png, {"content-type": "multipart/form-data; boundary=there-is-none"}
        else:
            body, headers = b"", {"content-type": "image/png"}
        answer = await client.post("/v1/upscale", content=body, headers=headers)
        self.seen.statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code not in REFUSALS:
            self.seen.wrong.append(f"rubbish of kind {kind}: {answer.status_code} {answer.text[:200]}")

    async def _leave(self, client: httpx.AsyncClient) -> None:
        await self._half_way(share=1.0, stay_s=self._chance.random() * MAX_STAY_S)

    async def _stall(self, client: httpx.AsyncClient) -> None:
        await self._half_way(share=self._chance.random(), stay_s=MAX_STAY_S)

    async def _half_way(self, *, share: float, stay_s: float) -> None:
        """Send part of a request, wait, and disconnect: by a reset or by a normal close."""
        upload = self._chance.choice(self.uploads)
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            head = f"POST /v1/upscale HTTP/1.1\r\nHost: a\r\nContent-Length: {len(upload.png)}\r\n\r\n"
            writer.write(head.encode() + upload.png[: int(share * len(upload.png))])
            await asyncio.sleep(stay_s)
            if self._chance.random() < 0.5:
                writer.transport.abort()
        finally:
            self.seen.left += 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
