"""A picture, and a service with answers chosen by the test."""

import json
from pathlib import Path

import httpx

from tests.app.conftest import encoded, noise

PICTURE = encoded(noise(30, 20))


def answering(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A service that sends these answers in order."""
    waiting, seen = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle), seen


def problem(status: int, detail: str = "wrong", headers: dict[str, str] | None = None) -> httpx.Response:
    document = {"type": "urn:esrgan-serve:problem:some-kind", "status": status, "detail": detail}
    return httpx.Response(status, content=json.dumps(document), headers=headers or {})


def picture_file(folder: Path, content: bytes) -> Path:
    (folder / "in.png").write_bytes(content)
    return folder / "in.png"
