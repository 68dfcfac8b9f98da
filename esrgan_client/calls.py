"""Parts of a call that both clients share."""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import httpx

from esrgan_client.problems import Problem

PictureFile = str | os.PathLike[str]

WAIT_S = 600
"""Maximum seconds that the service may take for a picture; its own limit is usually lower."""

TIMEOUT = httpx.Timeout(30, read=WAIT_S + 30)
"""The answer for a large picture begins only after its turn in the queue."""


def headers_of(key: str) -> Mapping[str, str]:
    """Return the headers of every request."""
    key = key.strip()  # read from a file, it ends with a line break
    headers = {"User-Agent": "esrgan-client", "Prefer": f"wait={WAIT_S}"}
    return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def form_of(pictures: Sequence[bytes | PictureFile], opened: ExitStack) -> list[tuple[str, bytes | BinaryIO]]:
    """Return the fields of a form; its files are open until the stack is closed."""
    return [
        ("image", each if isinstance(each, bytes) else opened.enter_context(Path(each).open("rb"))) for each in pictures
    ]


def checked(answer: httpx.Response) -> httpx.Response:
    """Return a successful answer that has been read, or a stream that may be.

    Raises:
        Problem: it is another one.
    """
    if answer.is_success:
        return answer
    raise Problem.of(answer.status_code, answer.headers, answer.content)


@contextmanager
def part_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name at the end of the block; after an error nothing is left of it."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
