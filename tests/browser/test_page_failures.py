"""The page at / when something fails: files, proxies, keys, storage, results."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from app.settings import Settings
from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.page import DONE, DROP, Person, jobs_of

if TYPE_CHECKING:
    from playwright.async_api import Route

pytestmark = pytest.mark.anyio


SLOW_DATABASE = """
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (...given) {
        const request = put.apply(this, given);
        const until = performance.now() + 100;
        const wait = () => performance.now() < until && (this.count().onsuccess = wait);
        wait();
        return request;
    };
"""
"""Delays the storage of each file by 100 ms."""


ASKS = "() => !dispatchEvent(new Event('beforeunload', { cancelable: true }))"
"""True if the browser would ask before leaving the page."""


async def fail_once(person: Person, path: str, status: int) -> None:
    """Answer the first request to a path as a proxy does; the next ones are for the service."""

    async def answer(route: "Route") -> None:
        await route.fulfill(status=status, content_type="text/html", body="<h1>Sorry</h1>")

    await person.page.route(path, answer, times=1)


@asynccontextmanager
async def failing(person: Person, path: str, status: int) -> AsyncIterator[None]:
    """Answer requests to a path as a proxy does until the end of the block; what the page says meanwhile stays."""

    async def answer(route: "Route") -> None:
        await route.fulfill(status=status, content_type="text/html", body="<h1>Sorry</h1>")

    await person.page.route(path, answer)
    yield
    await person.page.unroute(path)


async def test_a_file_that_cannot_be_read_blames_no_service_and_holds_nothing_up(
    person: Person, live: Live, tmp_path: Path
) -> None:
    await person.open(f"{live.address}/")
    for name in ("one", "two"):
        (tmp_path / f"{name}.png").write_bytes(encoded(noise(20, 16)))
    # As with a folder: the file is chosen, and cannot be read any more.
    await person.page.evaluate("() => { IDBObjectStore.prototype.put = () => { throw new Error('no room'); }; }")
    await person["#chooser"].evaluate("(it) => { it.hold = it.onchange; it.onchange = null; }")
    await person["#chooser"].set_input_files([tmp_path / "one.png", tmp_path / "two.png"])
    for name in ("one", "two"):
        (tmp_path / f"{name}.png").unlink()
    await person["#chooser"].evaluate("(it) => it.hold()")
    await person.sees(".card[data-state=failed]", 2)
    await person.reads(".card >> nth=0 >> .state", "cannot be read. If it has changed")
    await person.drop(three=encoded(noise(20, 16)))
    await person.sees(DONE)


async def test_a_file_that_was_kept_is_sent_though_it_is_changed_later(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(DONE)
    source = """async ([folder]) => {
        const { find, keep } = await import(folder + "files.js");
        const file = new File(["a"], "a.png");
        await keep("a", file);
        return (await find("a")) === file;
    }"""
    assert await person.run(source) is False  # the copy in the database


async def test_a_reload_is_asked_about_until_the_files_are_kept(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    assert not await person.page.evaluate(ASKS)
    files = [["photo.png", base64.b64encode(encoded(noise(20, 16))).decode()]]
    assert await person.page.evaluate(f"(given) => {{ ({DROP})(given); return ({ASKS})(); }}", [files])
    await person.sees(DONE)
    await person.page.wait_for_function(f"() => !({ASKS})()")


async def test_a_picture_whose_file_is_gone_is_not_offered_again(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await fail_once(person, "**/v1/jobs", 418)
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(".card[data-state=failed] .text")
    source = """async ([folder]) => {
        const { forget } = await import(folder + "files.js");
        await forget(JSON.parse(sessionStorage.getItem("esrgan-pictures"))[0].id);
    }"""
    await person.run(source)
    await person.page.reload()
    await person.sees(".card[data-state=failed]")
    await person.sees(".card .text", 0)


async def test_what_is_refused_for_good_is_not_offered_again_and_has_no_result(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(wide=encoded(Image.new("L", (300, 300))), text=b"no picture")
    await person.sees(".card[data-state=failed]", 2)
    await person.sees(".card .text", 0)
    await person.reads(".card .size >> nth=0", "^300 × 300$")


async def test_a_proxy_with_nothing_behind_it_is_waited_for(person: Person, live: Live) -> None:
    await fail_once(person, "**/v1/models", 502)
    await person.open(f"{live.address}/")
    async with failing(person, "**/v1/jobs", 502):
        await person.drop(photo=encoded(noise(20, 16)))
        await person.reads(".card .state", "cannot be reached. Trying again")
    await person.sees(DONE)


async def test_a_proxy_that_refuses_a_file_is_quoted_once(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await fail_once(person, "**/v1/jobs", 413)
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads(".card[data-state=failed] .state", r"^The file is too large for a proxy .*\(HTTP 413\)\.$")


async def test_a_status_that_the_page_does_not_know_is_said_once(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await fail_once(person, "**/v1/jobs", 418)
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads(".card[data-state=failed] .state", "^HTTP 418$")


async def test_pictures_added_while_the_service_starts_run_once(person: Person, live: Live) -> None:
    await person.page.add_init_script(SLOW_DATABASE)
    async with failing(person, "**/v1/models", 503):
        await person.page.goto(f"{live.address}/")
        await person.reads("#starting", "is starting")
        await person.drop(**{f"photo{number}": encoded(noise(20 + number, 16)) for number in range(8)})
    await person["#setting-model"].wait_for()
    await person.sees(DONE, 8)
    assert len(await jobs_of(live)) == 8


async def test_a_page_without_storage_works(person: Person, live: Live) -> None:
    blocked = "get() { throw new DOMException('Access is denied for this document.', 'SecurityError'); }"
    await person.page.add_init_script(
        f"for (const name of ['sessionStorage', 'indexedDB']) Object.defineProperty(window, name, {{ {blocked} }});"
    )
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    assert await person.width_of_result() == 80
    assert person.complaints == []


async def test_a_result_that_is_gone_is_made_again(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    await person.sees(DONE, 2)
    for job in await jobs_of(live):
        if job.pictures[0].file_name == "two.png":
            await live.life.jobs.cancel(job)
    await person[".card .show"].nth(1).click()
    await person.reads("#note", "no longer has this picture. Try again.$")
    await person[".card[data-state=failed] .text"].click()
    await person.sees(DONE, 2)
    await person.sees("#layer-after img")


async def test_a_result_whose_connection_was_lost_is_fetched_again(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.page.route("**/result", lambda route: route.abort())
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads("#note", "cannot be reached")
    await person.page.unroute("**/result")
    assert await person.width_of_result() == 80
    await person.sees("#note", 0)


async def test_a_file_over_the_limit_is_not_sent(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(300, 200)))
    await person.reads(".card[data-state=failed] .state", "has 0.2 MB; the service takes at most 0.1 MB")
    await person.sees(".card .text", 0)
    assert not any("/v1/jobs?" in url or url.endswith("/v1/jobs") for url in person.requested[-3:])


class TestKeys:
    """A service that needs a key."""

    @pytest.fixture
    def settings(self, settings: Settings, token: str, tmp_path: Path) -> Settings:
        return settings.model_copy(update={"keys": tmp_path / "keys"})

    async def test_a_person_who_has_no_key_at_hand_may_give_it_later(
        self, person: Person, live: Live, token: str
    ) -> None:
        await person.page.goto(f"{live.address}/")
        await person["#key-cancel"].click()
        await person.reads("#starting", "A valid API key is required")
        await person.drop(photo=encoded(noise(20, 16)))
        await person["#change-key"].click()
        await person["#key"].fill("go\u200bod")
        await person["#key"].press("Enter")
        await person.reads("#key-reason", "letters A to Z")
        await person["#key"].fill(token)
        await person["#key"].press("Enter")
        await person.sees(DONE)

    async def test_a_key_that_is_refused_later_is_asked_for_once(self, person: Person, live: Live, token: str) -> None:
        await person.page.goto(f"{live.address}/")
        await person["#key"].fill(token)
        await person["#key"].press("Enter")
        await person["#setting-model"].wait_for()
        await person.page.evaluate("() => sessionStorage.setItem('esrgan-key', 'revoked')")
        await person.drop(one=encoded(noise(20, 16)))
        await person["#key"].wait_for()  # a key that is pressed before the dialog opens is lost
        await person["#key"].press("Escape")
        await person.reads(".card[data-state=failed] .state", "A valid API key is required")
        await person[".card .text"].click()
        await person.reads(".card[data-state=failed] .state", "A valid API key is required")
        await person.sees("#key-dialog", 0)
        await person["#change-key"].click()
        await person["#key"].fill(token)
        await person["#key"].press("Enter")
        await person.sees(DONE)
