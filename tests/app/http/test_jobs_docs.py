"""Run the examples of docs/jobs.md."""

import asyncio
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from PIL import Image

from app.jobs.webhooks import WebhookSecrets
from app.lists import hosts_of, networks_of
from app.settings import Settings
from tests.app.conftest import encoded, noise
from tests.app.jobs.peer import Peer, Reply, listening
from tests.app.live import Live
from tests.app.processes import free_port

pytestmark = pytest.mark.anyio

TEXT = (Path(__file__).parents[3] / "docs" / "jobs.md").read_text()
COMMANDS = re.sub(r"(?s)```.*?```", "", TEXT)
SCRIPTS = re.findall(r"(?:^    (?:JOB=|curl|    ).*\n)+", COMMANDS, re.MULTILINE)
CLIENT, RECEIVER = re.findall(r"(?s)```python\n(.*?)```", TEXT)
ONE, SEVERAL, URLS = (re.sub(r"(?m)^    ", "", script) for script in SCRIPTS)
HERE: dict[str, object] = {"allowed_networks": networks_of("127.0.0.0/8")}


async def run(live: Live, folder: Path, text: str, variables: Mapping[str, str] | None = None) -> str:
    """Run a script of bash, or else of Python, in a folder with a picture; returns its output."""
    (folder / "photo.jpg").write_bytes(encoded(noise(20, 16), "JPEG"))
    text = text.replace("http://127.0.0.1:8000", live.address)
    if text.startswith("import "):
        command = [sys.executable, "-W", "error", "-c", text]
    else:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        command = ["bash", "-euc", text.replace("curl ", "curl --fail --silent --show-error ")]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=os.environ | (variables or {}), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return said.decode()


async def test_a_picture_is_sent_watched_and_fetched_with_curl(live: Live, tmp_path: Path) -> None:
    said = await run(live, tmp_path, ONE)
    assert '"state":"done"' in said
    with Image.open(tmp_path / "photo_x4.png") as image:
        assert image.size == (80, 64)


async def test_a_picture_is_sent_and_fetched_with_httpx(live: Live, tmp_path: Path) -> None:
    await run(live, tmp_path, CLIENT)
    with Image.open(tmp_path / "photo_x2.png") as image:
        assert image.size == (40, 32)


async def test_several_pictures_come_as_a_zip_file(live: Live, tmp_path: Path) -> None:
    await run(live, tmp_path, SEVERAL)
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert archive.namelist() == ["1_photo_x4.png", "2_photo_x4.png"]


PORT = free_port()


@pytest.mark.parametrize("settings", [HERE | {"webhook_hosts": hosts_of(f"127.0.0.1:{PORT}")}], indirect=True)
async def test_the_receiver_verifies_a_webhook(
    live: Live, caller: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    assert settings.jobs_folder is not None
    (secret,) = WebhookSecrets.read(settings.jobs_folder / "webhook-secrets").of_key("")
    receiving = asyncio.create_task(run(live, tmp_path, RECEIVER, {"SECRET": secret, "PORT": str(PORT)}))
    answer = await caller.post(f"/v1/jobs?webhook=http://127.0.0.1:{PORT}/hook", content=encoded(noise(20, 16)))
    job = answer.raise_for_status().json()
    assert await receiving == f"job.done {job['id']}\n"


@pytest.mark.parametrize("settings", [HERE | {"fetch_hosts": hosts_of(f"127.0.0.1:{PORT}")}], indirect=True)
async def test_a_picture_goes_from_url_to_url(live: Live, caller: httpx.AsyncClient, tmp_path: Path) -> None:
    replies = [Reply(body=encoded(noise(20, 16))), Reply()]
    async with listening(Peer(port=PORT, replies=replies)) as bucket:
        said = await run(live, tmp_path, URLS.replace("https://bucket.example.com", bucket.address))
        job = json.loads(said)
        assert "signature" not in said
        events = (await caller.get(f"/v1/jobs/{job['id']}/events", timeout=20)).text
        assert '"state":"done"' in events
        assert [(it.method, it.path) for it in bucket.received] == [
            ("GET", "/in.jpg?signature=..."),
            ("PUT", "/out.png?signature=..."),
        ]
        result = await caller.get(f"/v1/jobs/{job['id']}/result")
        assert bucket.received[1].body == result.content
