"""A simulated user of the page at /: opens it, drops files, reads its texts."""

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.browser.conftest import Tab

if TYPE_CHECKING:
    from playwright.async_api import Locator

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
    """A simulated user of a tab with the page."""

    tab: Tab

    async def open(self, address: str) -> None:
        """Open the page and wait until it shows the parameters of the service."""
        self.tab.page.set_default_timeout(WAIT_MS)
        await self.tab.page.goto(address)
        await self["#setting-model"].wait_for()

    def __getitem__(self, selector: str) -> "Locator":
        return self.tab.page.locator(selector)

    async def drop(self, **files: bytes) -> None:
        """Drop files, whose names are given without their suffix, which is .png."""
        named = [(f"{name}.png", base64.b64encode(content).decode()) for name, content in files.items()]
        await self.tab.page.evaluate(DROP, [named])

    async def paste(self, content: bytes) -> None:
        """Paste a picture, as after a copy in a program."""
        await self.tab.page.evaluate(PASTE, [["image.png", base64.b64encode(content).decode()]])

    async def reload(self, *, kept: int) -> None:
        """Reload the page once the browser has stored its files; before, it asks whether to leave the page."""
        await self.tab.page.wait_for_function(KEEPS, arg=kept)
        await self.tab.page.reload()

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

    @property
    def complaints(self) -> list[str]:
        """Errors on the console, except answers of the service, which the page shows."""
        return [it for it in self.tab.complaints if not it.startswith("Failed to load resource")]
