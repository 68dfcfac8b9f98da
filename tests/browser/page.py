"""A simulated user of a page, most often of the one at /: opens it, drops files, reads its texts."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.jobs.job import StoredJob
from tests.app.live import Live

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Locator, Page

DONE = ".card[data-state=done]"
"""Cards of pictures that are done."""

WAIT_MS = 60_000
"""Timeout for anything to appear, on a busy machine."""

DROP = """([files]) => {
    const transfer = new DataTransfer();
    for (const [name, data] of files) {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
    }
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


PASTE = """([[name, data]]) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""

KEEPS = """(files) => new Promise((resolve) => {
    const opening = indexedDB.open("esrgan", 1);
    opening.onsuccess = () => {
        const counting = opening.result.transaction("files").objectStore("files").count();
        counting.onsuccess = () => {
            opening.result.close();
            resolve(counting.result >= files);
        };
    };
})"""
"""Returns whether the page has stored some files."""


@dataclass(frozen=True)
class Person:
    """A page, with its console messages and requests, and the acts of its user."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings on the console, violations of the content policy included."""
    requested: list[str] = field(default_factory=list)
    """URLs of all requests, in order."""

    @classmethod
    def of(cls, page: "Page") -> "Person":
        """Note what a page complains about and requests."""
        person = cls(page)

        def hear(message: "ConsoleMessage") -> None:
            if message.type in ("error", "warning"):
                person.complaints.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: person.complaints.append(str(error)))
        page.on("request", lambda request: person.requested.append(request.url))
        return person

    @property
    def origins(self) -> set[str]:
        """Origins of all requests that went over the network."""
        parts = (urlsplit(url) for url in self.requested)
        return {f"{part.scheme}://{part.netloc}" for part in parts if part.scheme in ("http", "https")}

    async def open(self, address: str) -> None:
        """Open the page and wait until it shows the parameters of the service."""
        self.page.set_default_timeout(WAIT_MS)
        await self.page.goto(address)
        await self["#setting-model"].wait_for()

    def __getitem__(self, selector: str) -> "Locator":
        return self.page.locator(selector)

    async def drop(self, **files: bytes) -> None:
        """Drop files, whose names are given without their suffix, which is .png."""
        named = [(f"{name}.png", base64.b64encode(content).decode()) for name, content in files.items()]
        await self.page.evaluate(DROP, [named])

    async def paste(self, content: bytes) -> None:
        """Paste a picture, as after a copy in a program."""
        await self.page.evaluate(PASTE, [["image.png", base64.b64encode(content).decode()]])

    async def reload(self, *, kept: int) -> None:
        """Reload the page once the browser has stored its files; before, it asks whether to leave the page."""
        await self.page.wait_for_function(KEEPS, arg=kept)
        await self.page.reload()

    async def sees(self, selector: str, times: int = 1) -> None:
        from playwright.async_api import expect  # here, because playwright may be missing

        await expect(self[f"{selector}:visible"]).to_have_count(times, timeout=WAIT_MS)

    async def reads(self, selector: str, text: str) -> None:
        from playwright.async_api import expect

        await expect(self[selector]).to_contain_text(re.compile(text), timeout=WAIT_MS)

    async def width_of_result(self) -> object:
        """Wait for the result; returns its width in px."""
        image = self["#layer-after img"]
        await image.wait_for()
        return await image.evaluate("(image) => image.naturalWidth")

    async def focused(self) -> object:
        """Return the id of the element that has the focus, or its class."""
        return await self.page.evaluate("() => document.activeElement.id || document.activeElement.className")

    async def run(self, source: str, given: Any = None) -> Any:
        """Call a function of JavaScript with the address of the folder of the page's scripts, and with more."""
        folder = await self["script[type=module]"].evaluate("(it) => it.src.replace(/[^/]+$/, '')")
        return await self.page.evaluate(source, [folder, given])


async def jobs_of(live: Live) -> Sequence[StoredJob]:
    """Return the jobs of the service, at most twenty."""
    jobs, _ = await live.life.jobs.page("", state=None, before="", limit=20)
    return jobs
