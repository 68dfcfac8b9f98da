"""Read pictures from URLs, and write results to URLs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from socket import gaierror
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2

from app.errors import SourceRefused
from app.jobs.outgoing import Outgoing

Result = TypeVar("Result")

RETRIES_S = (1.0, 4.0)
"""Time before each retry, if a host does not answer or is busy."""

WAIT_S = 30.0
"""Time for the connection and the first bytes, before the rate is checked."""

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Busy(Exception):
    """The host cannot answer now."""


class Transfer:
    """Fetches sources and writes targets.

    Args:
        whole_s: maximum time for one transfer, with all attempts.
        min_bytes_per_s: minimum average rate, checked after `wait_s`.
        retries_s: time before each retry.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        *,
        whole_s: float,
        min_bytes_per_s: int,
        wait_s: float = WAIT_S,
        retries_s: tuple[float, ...] = RETRIES_S,
    ) -> None:
        self._outgoing = outgoing
        self._whole_s = whole_s
        self._min_bytes_per_s = min_bytes_per_s
        self._wait_s = wait_s
        self._retries_s = retries_s

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Read a picture.

        Raises:
            SourceRefused: the URL is not allowed, or cannot be read.
        """

        async def attempt() -> bytes:
            began_s = asyncio.get_running_loop().time()
            picture = bytearray()
            async with asyncio.timeout(self._time_s(0)) as limit, self._outgoing.request("GET", url) as response:
                _check_status(response, url)
                async for chunk in _bounded(response, url, max_bytes):
                    picture += chunk
                    limit.reschedule(began_s + self._time_s(len(picture)))
            return bytes(picture)

        return await self._persistently(attempt, url)

    async def send(
        self, url: str, chunks: Callable[[], AsyncIterator[bytes]], size_bytes: int, media_type: str
    ) -> None:
        """Write a result with PUT.

        Args:
            chunks: returns the chunks of the result, from the start at each call.

        Raises:
            SourceRefused: the URL is not allowed, or cannot be written.
        """
        headers = {"Content-Type": media_type, "Content-Length": str(size_bytes)}

        async def attempt() -> None:
            async with (
                asyncio.timeout(self._time_s(size_bytes)),
                self._outgoing.request("PUT", url, headers=headers, content=chunks()) as response,
            ):
                _check_status(response, url)

        await self._persistently(attempt, url)

    def _time_s(self, size_bytes: int) -> float:
        """Return the time allowed for this number of bytes."""
        return self._wait_s + size_bytes / self._min_bytes_per_s

    async def _persistently(self, attempt: Callable[[], Awaitable[Result]], url: str) -> Result:
        host = urlsplit(url).hostname
        try:
            async with asyncio.timeout(self._whole_s):
                for wait_s in (*self._retries_s, None):
                    try:
                        return await attempt()
                    except (TimeoutError, gaierror, httpx2.TransportError, _Busy) as error:
                        if wait_s is None:
                            raise _given_up(host, len(self._retries_s) + 1, error) from error
                        await asyncio.sleep(wait_s)
        except TimeoutError as error:
            raise SourceRefused(
                f"{host} is too slow: a transfer may take {self._whole_s:g} s; try again later"
            ) from error
        raise AssertionError("unreachable")


def _given_up(host: str | None, times: int, error: Exception) -> SourceRefused:
    reason = str(error) if isinstance(error, _Busy) else "it cannot be reached, or answers too slowly"
    return SourceRefused(f"{host} failed {times} times: {reason}; try again later")


def _check_status(response: httpx2.Response, url: str) -> None:
    if response.status_code in BUSY:
        raise _Busy(f"it answers {response.status_code}")
    if not response.is_success:
        host = urlsplit(url).hostname
        raise SourceRefused(f"{host} answers {response.status_code}; check the URL and whether it has expired")


async def _bounded(response: httpx2.Response, url: str, max_bytes: int) -> AsyncIterator[bytes]:
    host = urlsplit(url).hostname
    if encoding := response.headers.get("content-encoding", "identity").lower().replace("identity", ""):
        raise SourceRefused(f"{host} sends the picture with Content-Encoding: {encoding[:100]}; store it as it is")
    announced = response.headers.get("content-length", "")
    size_bytes = int(announced) if announced.isdecimal() and len(announced) < 19 else 0
    if size_bytes <= max_bytes:
        size_bytes = 0
        async for chunk in response.aiter_raw():
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                break
            yield chunk
    if size_bytes > max_bytes:
        raise SourceRefused(f"the picture at {host} has more than {max_bytes} bytes, which is the limit")
