"""Static files: their URLs, their caching, and files copied from npm."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.http.application import create_app
from app.http.assets import MEDIA_TYPES, STATIC, Assets
from tests.app.conftest import problem
from tests.app.in_process import client_of, without_models

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(without_models())) as it:
        yield it


VENDORED = sorted(STATIC.glob("*/vendored.json"))


@pytest.mark.parametrize("manifest", VENDORED, ids=lambda path: path.parent.name)
def test_copied_files_are_those_of_the_package(manifest: Path) -> None:
    listed: dict[str, str] = json.loads(manifest.read_text("utf-8"))["files"]
    assert {path.name for path in manifest.parent.iterdir()} == {*listed, manifest.name}
    for name, expected in listed.items():
        digest = hashlib.sha256((manifest.parent / name).read_bytes()).digest()
        assert f"sha256-{base64.b64encode(digest).decode()}" == expected
    assert "LICENSE" in listed


def addresses(html: str) -> list[str]:
    """Return the URLs of all files that a page loads."""
    return [it for it in re.findall(r'(?:src|href)="([^"]*)"', html) if it.startswith("assets/")]


async def test_files_are_kept_for_ever_under_addresses_that_name_their_content(client: httpx.AsyncClient) -> None:
    loaded = addresses((await client.get("/docs")).text)
    assert len(loaded) >= 3
    for address in loaded:
        answer = await client.get(f"/{address}")
        assert answer.status_code == 200
        folder, name = address.split("/")[1:]
        assert answer.content == (STATIC / folder.rpartition("-")[0] / name).read_bytes()
        assert answer.headers["content-type"] == MEDIA_TYPES[Path(name).suffix]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        same = await client.get(f"/{address}", headers={"If-None-Match": answer.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")


def test_other_content_has_another_address(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "page.html").write_text('<script src="assets/a/b.js"></script>')
    pages = []
    for script in ("1", "2", "1"):
        (tmp_path / "a" / "b.js").write_text(script)
        pages.append(Assets(tmp_path).page("a/page.html").html.decode())
    assert pages[0] == pages[2] != pages[1]
    assert all(re.fullmatch(r'<script src="assets/a-[0-9a-f]{16}/b.js"></script>', page) for page in pages)


@pytest.mark.parametrize("name", ["LICENSE", "vendored.json", "index.html", "..%2fdocs%2fdocs.js", "nothing.js"])
async def test_nothing_else_of_the_folders_is_served(client: httpx.AsyncClient, name: str) -> None:
    for address in {it.rpartition("/")[0] for it in addresses((await client.get("/docs")).text)}:
        assert (await client.get(f"/{address}/{name}")).status_code == 404
    for address in ("/assets/other-0000000000000000/docs.js", "/assets/docs/docs.js"):
        problem(await client.get(address), 404, "not-found")


async def test_an_address_of_another_version_gets_the_current_file_for_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/docs-0000000000000000/docs.js")
    assert answer.content == (STATIC / "docs" / "docs.js").read_bytes()
    assert answer.headers["cache-control"] == "no-store"
    problem(await client.get("/assets/docs-0000000000000000/nothing.js"), 404, "not-found")


@pytest.mark.parametrize("page", sorted(STATIC.glob("*/*.html")), ids=lambda path: path.parent.name)
def test_pages_have_no_inline_script_or_style_and_load_only_our_files(page: Path) -> None:
    html = page.read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    for address in re.findall(r'<(?:script|link|img)[^>]*\s(?:src|href)="([^"]*)"', html):
        assert address == "data:," or address.startswith("assets/")


async def test_a_page_is_asked_for_again_and_not_sent_twice(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["cache-control"] == "no-cache"
    same = await client.get("/docs", headers={"If-None-Match": f'"other", W/{page.headers["etag"]}'})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["content-security-policy"] == page.headers["content-security-policy"]
    assert (await client.get("/docs", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_tags_may_come_in_several_lines(client: httpx.AsyncClient) -> None:
    tag = (await client.get("/docs")).headers["etag"]
    for tags in ((tag, '"other"'), ('"other"', tag)):
        assert (await client.get("/docs", headers=[("If-None-Match", tag) for tag in tags])).status_code == 304


async def test_scripts_and_styles_are_sent_compressed_to_those_who_accept_it(client: httpx.AsyncClient) -> None:
    for address in addresses((await client.get("/docs")).text):
        packed, plain, refused = [
            await client.get(f"/{address}", headers={"Accept-Encoding": codings})
            for codings in ("br, gzip", "identity", "gzip;q=0")
        ]
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content == refused.content
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert {"content-encoding"}.isdisjoint({*plain.headers, *refused.headers})
        assert packed.headers["etag"] != plain.headers["etag"]
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
