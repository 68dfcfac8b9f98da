"""Accessibility of the page at /: WCAG 2.2 AA by axe-core, phones, dark and light, reduced motion."""

from typing import TYPE_CHECKING, Any

import pytest

from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.conftest import Tab, empty_tab
from tests.browser.page import Person

if TYPE_CHECKING:
    from playwright.async_api import Browser, Route

pytestmark = pytest.mark.anyio

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
ROOM_FOR_OUTLINE_PX = """([focused, scrolled]) => {
    const it = document.querySelector(focused);
    it.focus();
    const { outlineOffset, outlineWidth } = getComputedStyle(it);
    const reach = parseFloat(outlineOffset) + parseFloat(outlineWidth);
    return it.getBoundingClientRect().left - document.querySelector(scrolled).getBoundingClientRect().left - reach;
}"""
PHONE = {"width": 320, "height": 640}


async def faults_of(tab: Tab) -> list[str]:
    """Return the violations that axe finds, with their elements."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe-playwright-python is not installed")
    results: dict[str, Any] = (await axe.Axe().run(tab.page, options=RULES)).response
    return [f"{it['id']}: {[node['html'] for node in it['nodes']]}" for it in results["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_meets_wcag_in_every_state(tab: Tab, live: Live, scheme: str) -> None:
    person = Person(tab)
    await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    await person.open(f"{live.address}/")
    assert await faults_of(tab) == []
    await person.drop(one=encoded(noise(20, 16)), broken=b"no picture")
    await person.sees(".card[data-state=done]")
    await person.sees(".card[data-state=failed]")
    await person["details summary"].click()
    await person["#setting-size"].select_option("scale")
    assert await faults_of(tab) == []
    await person["#curl:enabled"].click()
    assert await faults_of(tab) == []


async def test_the_page_fits_a_small_phone(tab: Tab, live: Live) -> None:
    person = Person(tab)
    await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await person.open(f"{live.address}/")
    await person.drop(**{"a-long-name-" * 8: encoded(noise(20, 16))})
    await person.sees(".card[data-state=done]")
    assert await tab.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


async def test_a_picture_is_seen_without_a_mouse(tab: Tab, live: Live) -> None:
    person = Person(tab)
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.width_of_result()
    reached = list[str]()
    await tab.page.evaluate("() => document.activeElement.blur()")
    for _ in range(40):
        await tab.page.keyboard.press("Tab")
        reached.append(await tab.page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    expected = {"stage", "divider", "before", "zoom-in", "save", "show", "choose", "setting-model", "setting-size"}
    assert expected <= set(reached)


async def test_the_outline_of_the_focus_is_not_cut_off(tab: Tab, live: Live) -> None:
    person = Person(tab)
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(".card[data-state=done]")
    await tab.page.keyboard.press("Tab")  # so that a focus is shown
    for focused, scrolled in ((".card", "#list"), ("#setting-model", "#settings")):
        assert await tab.page.evaluate(ROOM_FOR_OUTLINE_PX, [focused, scrolled]) >= 0


async def test_what_is_drawn_by_backgrounds_is_seen_in_forced_colours(tab: Tab, live: Live) -> None:
    person = Person(tab)
    await tab.page.emulate_media(forced_colors="active")
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.width_of_result()
    for drawn in ("#divider", ".card progress", "#save"):
        assert await person[drawn].evaluate("(it) => getComputedStyle(it).forcedColorAdjust") == "none"
    assert await person[".card"].evaluate("(it) => getComputedStyle(it).outlineStyle") == "solid"
    system = "(it, name) => { it.style.color = name; return getComputedStyle(it).color; }"
    words = await person["#save"].evaluate("(it) => getComputedStyle(it).color")
    assert words == await person["#save"].evaluate(system, "HighlightText")


async def test_without_scripts_there_is_a_sentence_and_no_empty_button(chromium: "Browser", live: Live) -> None:
    async with empty_tab(chromium, java_script_enabled=False) as tab:
        await tab.page.goto(f"{live.address}/")
        await tab.page.locator("noscript a").wait_for()
        assert not await tab.page.locator("button:visible").count()


async def test_words_on_buttons_do_not_widen_a_small_phone(tab: Tab, live: Live) -> None:
    person = Person(tab)
    await tab.page.add_init_script("navigator.clipboard.write = () => Promise.reject(new Error('no'));")
    await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person["#copy:enabled"].click()
    await person.reads("#note", "does not let pages copy")
    assert await tab.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


async def test_a_translation_brings_its_language_and_direction(tab: Tab, live: Live) -> None:
    async def translate(route: "Route") -> None:
        answer = await route.fetch()
        body = (await answer.text()).replace('lang: "en"', 'lang: "ar"').replace('dir: "ltr"', 'dir: "rtl"')
        await route.fulfill(response=answer, body=body)

    await tab.page.route("**/en.js", translate)
    await Person(tab).open(f"{live.address}/")
    root = "() => [document.documentElement.lang, getComputedStyle(document.documentElement).direction]"
    assert await tab.page.evaluate(root) == ["ar", "rtl"]


async def test_nothing_moves_for_those_who_want_less_motion(tab: Tab, live: Live) -> None:
    await tab.page.emulate_media(reduced_motion="reduce")
    await Person(tab).open(f"{live.address}/")
    moving = (
        "() => [...document.querySelectorAll('*')].filter((it) => getComputedStyle(it).animationName !== 'none').length"
    )
    assert await tab.page.evaluate(moving) == 0
