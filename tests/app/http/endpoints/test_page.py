"""GET /: the web page, its policy, its size and its texts."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.http.assets import STATIC
from tests.app.conftest import problem
from tests.app.in_process import client_of

pytestmark = pytest.mark.anyio

PAGE = STATIC / "page"
HTML = (PAGE / "index.html").read_text("utf-8")
SCRIPTS = {path.name: path.read_text("utf-8") for path in sorted(PAGE.glob("*.js"))}
MAX_SCRIPT_BYTES = 60_000
"""Maximum size of all scripts as sent."""


async def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(it.strip().split(" ", 1) for it in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"https?://", HTML + "".join(SCRIPTS.values()))


async def test_every_address_is_relative_so_that_the_page_works_below_a_prefix(client: httpx.AsyncClient) -> None:
    addresses = re.findall(r'(?:href|src)="([^"#]+)"', (await client.get("/")).text)
    assert len(addresses) >= 4
    assert not [it for it in addresses if it.startswith("/")]
    called = re.findall(r'(?:fetch|json|send|address)\(\s*["`]([^"`]*)', "".join(SCRIPTS.values()))
    assert len(called) >= 5
    assert not [it for it in called if it.startswith("/")]


async def test_the_page_does_not_wait_for_the_network(app: FastAPI) -> None:
    # The lifespan of the application has not begun, so nothing is loaded.
    async with client_of(app) as client:
        problem(await client.get("/v1/models"), 503, "unavailable")
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize("settings", [{"page": False}], indirect=True)
async def test_an_operator_may_leave_the_page_out(client: httpx.AsyncClient) -> None:
    problem(await client.get("/"), 404, "not-found")
    assert (await client.get("/docs")).status_code == 200


async def test_all_scripts_together_stay_within_their_budget(client: httpx.AsyncClient) -> None:
    folder = re.findall(r'src="(assets/page-\w+)/', (await client.get("/")).text)[0]
    sizes = [int((await client.get(f"/{folder}/{name}")).headers["content-length"]) for name in SCRIPTS]
    assert sum(sizes) < MAX_SCRIPT_BYTES


def wanted_texts() -> Iterator[str]:
    """Yield the names of all texts that are written as literals in the page and its scripts."""
    yield from re.findall(r'data-(?:text|label)="([^"]+)"', HTML)
    for script in SCRIPTS.values():
        yield from re.findall(r'\b(?:text|textOr)\(\s*"([^"]+)"', script)
        for plural in re.findall(r'\bcounted\(\s*"([^"]+)"', script):
            yield from (f"{plural}.one", f"{plural}.other")


def test_every_text_is_in_the_file_for_translators() -> None:
    texts = set(re.findall(r'^  "?([^":]+)"?:', SCRIPTS["en.js"], re.MULTILINE))
    assert {*wanted_texts(), "lang", "dir"} - texts == set()


def test_scripts_import_only_files_that_are_there() -> None:
    for name, script in SCRIPTS.items():
        for imported in re.findall(r'from "\./([^"]+)"|new URL\("\./([^"]+)"', script):
            assert Path(PAGE / "".join(imported)).is_file(), name
