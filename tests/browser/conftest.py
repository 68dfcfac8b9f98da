"""Chromium, driven by playwright, in front of a real service with a tiny network."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.access.keys import new_key
from tests.app.conftest import app, blocked, caller, client, engine, life, live, models, service, settings
from tests.browser.page import Person

if TYPE_CHECKING:
    from playwright.async_api import Browser, ViewportSize

__all__ = ["app", "blocked", "caller", "client", "engine", "life", "live", "models", "service", "settings"]  # fixtures

TIMEOUT_MS = 120_000
"""Timeout of each step: on a busy machine, drawing a page takes many seconds."""

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as a browser test."""
    for item in items:
        if item.path.parent == item.config.rootpath / "tests" / "browser":
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"  # of this scope, so that all tests share an event loop, and with it the browser


@pytest.fixture(scope="package")
async def chromium(anyio_backend: str) -> AsyncIterator["Browser"]:
    """Start Chromium once. Every host name that ends in `.test` is this machine."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(CHROMIUMS)} is installed")
    arguments = ["--host-resolver-rules=MAP *.test 127.0.0.1"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to run as root with it
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=arguments)
        yield browser
        await browser.close()


@pytest.fixture
def token(tmp_path: Path) -> str:
    """Write a file of keys, and return the key that it has."""
    token, line = new_key("people")
    (tmp_path / "keys").write_text(line)
    return token


@pytest.fixture
async def person(chromium: "Browser") -> AsyncIterator[Person]:
    """Open an empty page."""
    async with empty_page(chromium) as person:
        yield person


@pytest.fixture
async def phone(chromium: "Browser") -> AsyncIterator[Person]:
    """Open an empty page on a small phone."""
    screen: ViewportSize = {"width": 375, "height": 667}
    async with empty_page(chromium, viewport=screen, has_touch=True, is_mobile=True) as person:
        yield person


@asynccontextmanager
async def empty_page(chromium: "Browser", **options: Any) -> AsyncIterator[Person]:
    """Open an empty page in a new profile, with options of `Browser.new_context`."""
    context = await chromium.new_context(**options)
    context.set_default_timeout(TIMEOUT_MS)
    yield Person.of(await context.new_page())
    await context.close()
