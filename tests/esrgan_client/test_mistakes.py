"""Mistakes of a caller raise errors before a picture is sent, with the value and the way out."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from esrgan_client import AsyncClient, Client
from esrgan_client.retries import MISTAKES
from tests.app.live import Live
from tests.esrgan_client.answers import PICTURE, answering, picture_file

pytestmark = pytest.mark.anyio


async def test_a_mistake_in_the_address_is_said_at_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    pause = SimpleNamespace(sleep=lambda _: pytest.fail("it was tried again"))
    monkeypatch.setattr("esrgan_client.sync_client.time", pause)  # of this module alone: the service has its own
    with Client(f"127.0.0.1:{live.port}") as sync, pytest.raises(MISTAKES, match=r"/v1/models: .* missing"):
        await asyncio.to_thread(sync.models)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(("key", "wrong"), [("two\nlines", r"'\\n'"), ("schl\u00fcssel", "'\u00fc'")])
def test_a_key_that_cannot_be_one_is_refused(kind: type[Client | AsyncClient], key: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"the key has the character {wrong}"):
        kind("http://test", key=key)


def test_a_service_that_is_not_reached_is_named() -> None:
    transport, _ = answering(httpx.ConnectError("Connection refused"))
    with (
        Client("http://test:8000", transport=transport, retry_s=0) as client,
        pytest.raises(httpx.ConnectError, match=r"http://test:8000/v1/models: Connection refused; does .* run there"),
    ):
        client.models()


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("in.png", ValueError),
        ("link.png", ValueError),
        ("absent/out.png", FileNotFoundError),
        (".", IsADirectoryError),
        ("o" * 300, OSError),
    ],
)
async def test_a_target_that_cannot_be_written_is_refused_before_the_upload(
    tmp_path: Path, target: str, error: type[Exception]
) -> None:
    source = picture_file(tmp_path, PICTURE)
    (tmp_path / "link.png").symlink_to(source)
    transport, seen = answering()
    with Client("http://test", transport=transport) as sync:
        with pytest.raises(error):
            sync.upscale_file(source, tmp_path / target)
        if error is not ValueError:
            with pytest.raises(error):
                sync.result("job_1", tmp_path / target)
    async with AsyncClient("http://test", transport=transport) as client:
        with pytest.raises(error):
            await client.upscale_file(source, tmp_path / target)
    assert seen == []
    assert source.read_bytes() == PICTURE


def test_a_target_may_have_the_longest_name(tmp_path: Path) -> None:
    transport, _ = answering(httpx.Response(200, content=b"made"))
    with Client("http://test", transport=transport) as client:
        client.upscale_file(picture_file(tmp_path, PICTURE), tmp_path / ("o" * 255))
    assert (tmp_path / ("o" * 255)).read_bytes() == b"made"
