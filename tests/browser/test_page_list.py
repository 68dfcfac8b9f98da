"""The list of the page at /: buttons, focus, announcements to screen readers, several tabs."""

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.pictures.encode import writable_formats
from app.settings import Settings
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, write_tiny_model
from tests.app.live import Live, until
from tests.browser.page import DONE, Person

if TYPE_CHECKING:
    from playwright.async_api import Route

pytestmark = pytest.mark.anyio


async def test_a_double_click_on_the_cross_cancels_and_does_not_remove(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await blocked.at_work()
    await person[".card .icon"].dblclick()
    await person.sees(".card[data-state=cancelled]")
    blocked.gate.set()


async def test_the_focus_stays_where_something_was_done(person: Person, live: Live, blocked: BlockedDevice) -> None:
    page = person.page
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    await blocked.at_work()
    cross = person[".card .icon"].first
    await page.wait_for_timeout(600)  # the cross ignores clicks right after its action has changed
    await cross.press("Enter")
    await person.sees(".card[data-state=cancelled]")
    assert await person.focused() == "icon"
    await person[".card .text:visible"].press("Enter")
    assert await person.focused() == "card"
    blocked.gate.set()
    await person.sees(DONE, 2)
    await page.wait_for_timeout(600)
    await cross.press("Enter")
    await person.sees(".card", 1)
    assert await person.focused() == "card"
    await person["#setting-size"].select_option("scale=2")
    await person["#again"].press("Enter")
    assert await person.focused() == "settings"
    await person["#clear"].press("Enter")
    assert await person.focused() == "choose"


async def test_screen_readers_hear_the_sizes_and_what_was_copied(person: Person, live: Live) -> None:
    page = person.page
    await page.add_init_script("navigator.clipboard.write = () => Promise.resolve();")
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(DONE)
    await page.get_by_role("button", name="photo.png 20 × 16 → 80 × 64").wait_for()
    await person["#copy:enabled"].click()
    await person.reads("#said", "^Copied$")
    await page.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new Error('no')); }")
    await person["#copy"].click()
    await person.reads("#note", "does not let pages copy")


async def test_a_duplicated_tab_leaves_the_list_to_the_first_one(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(DONE)
    async with person.page.context.expect_page() as opened:
        await person.page.evaluate("() => { open(location.href); }")
    other = await opened.value
    await other.locator("#setting-model").wait_for()
    await other.locator("#welcome").wait_for()
    await person.reload(kept=1)
    await person.sees(DONE)
    await other.reload()
    await other.locator("#welcome").wait_for()


async def test_a_duplicated_tab_does_not_send_what_the_first_one_still_sends(person: Person, live: Live) -> None:
    posts, held = list[str](), asyncio.Event()

    async def hold(route: "Route") -> None:
        if route.request.method == "POST":
            await held.wait()
        await route.continue_()

    context = person.page.context
    context.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    await person.page.route(re.compile("/v1/(jobs|upscale)"), hold)
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await until(lambda: len(posts) == 1)
    async with context.expect_page() as opened:
        await person.page.evaluate("() => { open(location.href); }")
    other = Person.of(await opened.value)
    await other["#setting-model"].wait_for()
    await other["#welcome"].wait_for()
    await other.drop(another=encoded(noise(20, 16)))
    await other.sees(DONE)
    assert len(posts) == 2
    held.set()
    await person.sees(DONE)


async def test_the_skip_link_leads_somewhere_before_there_are_pictures(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person["#skip"].press("Enter")
    assert await person.focused() == "welcome"
    await person.drop(photo=encoded(noise(20, 16)))
    await person["#skip"].press("Enter")
    assert await person.focused() == "pictures"


async def test_a_number_that_is_not_taken_is_marked(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person["#setting-format"].select_option("jpeg")
    await person["#setting-quality"].fill("150")
    assert await person["#setting-quality"].get_attribute("aria-invalid") == "true"
    await person.reads(".field:has(#setting-quality) .error", "100")
    await person["#reset"].click()
    await person["#setting-format"].select_option("jpeg")
    assert await person["#setting-quality"].get_attribute("aria-invalid") == "false"
    await person["#setting-size"].select_option("width")
    await person["#setting-size-number"].fill("-1")
    assert await person["#setting-size-number"].get_attribute("aria-invalid") == "true"
    await person.sees(".exact .error")


async def test_a_setting_that_is_no_longer_offered_gives_way_to_the_default(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person["#setting-format"].select_option("webp")
    await person.page.evaluate("() => sessionStorage.setItem('esrgan-settings', '{\"format\": \"gone\"}')")
    await person.page.reload()
    await person["#setting-model"].wait_for()
    assert await person["#setting-format"].input_value() == "png"


async def test_sixty_photos_are_decoded_one_after_the_other(person: Person, live: Live) -> None:
    await person.page.add_init_script("""
        window.most = 0;
        let now = 0;
        window.Worker = class extends Worker {
            constructor(...given) { super(...given); window.most = Math.max(window.most, ++now); }
            terminate() { now--; super.terminate(); }
        };
    """)
    await person.page.route("**/v1/models", lambda route: route.fulfill(status=503, body=""))
    await person.page.goto(f"{live.address}/")
    await person.drop(**{f"photo{number}": encoded(noise(20, 16)) for number in range(12)})
    await person.sees(".thumb canvas", 12)
    assert await person.page.evaluate("() => window.most") <= 2  # with that of the viewer


async def test_a_late_file_of_another_picture_is_not_shown(person: Person, live: Live) -> None:
    await person.page.add_init_script("""
        const get = IDBObjectStore.prototype.get;
        IDBObjectStore.prototype.get = function (id) {
            const request = get.call(this, id);
            const until = performance.now() + (id === window.late ? 1500 : 0);
            const wait = () => performance.now() < until && (this.count().onsuccess = wait);
            wait();
            return request;
        };
    """)
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(40, 16)), three=encoded(noise(60, 16)))
    await person.sees(DONE, 3)
    await person.page.evaluate("""() => {
        const [, second] = JSON.parse(sessionStorage.getItem("esrgan-pictures"));
        window.late = second.id;
        const cards = document.querySelectorAll(".card .show");
        cards[1].click();
        cards[2].click();
    }""")
    await person.page.wait_for_timeout(2000)  # the file of the second picture comes
    await person["#before"].select_option("nearest")
    await person.sees("#layer-before .nearest img")
    assert await person["#layer-before img"].evaluate("(image) => image.naturalWidth") == 60


async def test_a_result_that_is_too_large_to_show_is_not_fetched(person: Person, live: Live) -> None:
    page = person.page

    async def answer(route: "Route") -> None:
        job = {"id": "a", "state": "done", "progress": 1, "pictures": [{"result": {"media_type": "image/png"}}]}
        await route.fulfill(json=job)

    await page.route("**/v1/jobs?width=*", answer)
    await page.route("**/v1/jobs/a**", answer)
    await person.open(f"{live.address}/")
    await person["#setting-size"].select_option("width")
    await person["#setting-size-number"].fill("20000")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads("#note", "too large to show here")
    assert not [url for url in person.requested if url.endswith("/result")]


class TestLazy:
    """Models that are loaded when they are first used."""

    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        for name in ("tiny-one", "tiny-two"):
            write_tiny_model(tmp_path, name)
        return tmp_path

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"load": "lazy", "default_model": "tiny-one"})

    async def test_the_size_is_known_once_the_model_has_been_loaded(self, person: Person, live: Live) -> None:
        await person.open(f"{live.address}/")
        await person["#setting-model"].select_option("tiny-two")
        await person.reads(".facts.hint", "loads when it is first used")
        assert await person["#setting-size"].input_value() == "scale="
        await person.drop(photo=encoded(noise(20, 16)))
        await person.sees(DONE)
        await person.reads(".card .size", "20 × 16 → 80 × 64")
        assert await person["#setting-size"].input_value() == "scale=4"
        assert not any("scale" in url for url in person.requested)

    async def test_a_part_is_rendered_by_a_model_whose_scale_is_unknown(self, person: Person, live: Live) -> None:
        await person.open(f"{live.address}/")
        await person.drop(photo=encoded(noise(25, 20)))
        await person.sees("#layer-before canvas")
        await person["#setting-model"].select_option("tiny-two")
        await person["#lens img"].wait_for()
        assert any(url.endswith("/v1/upscale?model=tiny-two&format=png") for url in person.requested)


async def test_the_chosen_picture_is_shown_again_after_a_reload(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person["#choose"].focus()
    files = [{"name": f"{name}.png", "mimeType": "", "buffer": encoded(noise(20, 16))} for name in ("one", "two")]
    await person["#chooser"].set_input_files(files)  # type: ignore[arg-type]
    await person.sees(".card", 2)
    assert await person.focused() == "card"  # the focused button is hidden
    await person[".card .show"].nth(1).click()
    await person.reload(kept=2)
    await person.reads("#viewer-name", "^two.png$")


async def test_other_settings_are_not_offered_for_files_that_were_refused(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(broken=b"no picture", one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    await person.sees(DONE, 2)
    await person.sees(".card[data-state=failed]")
    await person["#setting-size"].select_option("scale=2")
    await person.reads("#again-all", "^All 2 again$")
    await person.sees("#again", 0)  # the first picture is the selected one


async def test_the_formats_offered_are_those_of_the_service(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    offered = await person["#setting-format option"].evaluate_all("(all) => all.map((it) => it.value)")
    assert offered == [*(form.name for form in writable_formats()), "same"]
