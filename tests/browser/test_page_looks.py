"""Accessibility of the page at /: WCAG 2.2 AA by axe-core, phones, dark and light, reduced motion."""

from typing import TYPE_CHECKING, Any

import pytest

from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.conftest import empty_page
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


async def faults_of(person: Person) -> list[str]:
    """Return the violations that axe finds, with their elements."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe-playwright-python is not installed")
    results: dict[str, Any] = (await axe.Axe().run(person.page, options=RULES)).response
    return [f"{it['id']}: {[node['html'] for node in it['nodes']]}" for it in results["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_meets_wcag_in_every_state(person: Person, live: Live, scheme: str) -> None:
    await person.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    await person.open(f"{live.address}/")
    assert await faults_of(person) == []
    await person.drop(one=encoded(noise(20, 16)), broken=b"no picture")
    await person.sees(".card[data-state=done]")
    await person.sees(".card[data-state=failed]")
    await person["details summary"].click()
    await person["#setting-size"].select_option("scale")
    assert await faults_of(person) == []
    await person["#curl:enabled"].click()
    assert await faults_of(person) == []


async def test_the_page_fits_a_small_phone(person: Person, live: Live) -> None:
    await person.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await person.open(f"{live.address}/")
    await person.drop(**{"a-long-name-" * 8: encoded(noise(20, 16))})
    await person.sees(".card[data-state=done]")
    assert await person.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


async def test_a_picture_is_seen_without_a_mouse(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.width_of_result()
    reached = set[object]()
    await person.page.evaluate("() => document.activeElement.blur()")
    for _ in range(40):
        await person.page.keyboard.press("Tab")
        reached.add(await person.focused())
    expected = {"stage", "divider", "before", "zoom-in", "save", "show", "choose", "setting-model", "setting-size"}
    assert expected <= reached


async def test_the_outline_of_the_focus_is_not_cut_off(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(".card[data-state=done]")
    await person.page.keyboard.press("Tab")  # so that a focus is shown
    for focused, scrolled in ((".card", "#list"), ("#setting-model", "#settings")):
        assert await person.page.evaluate(ROOM_FOR_OUTLINE_PX, [focused, scrolled]) >= 0


async def test_what_is_drawn_by_backgrounds_is_seen_in_forced_colours(person: Person, live: Live) -> None:
    await person.page.emulate_media(forced_colors="active")
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
    async with empty_page(chromium, java_script_enabled=False) as person:
        await person.page.goto(f"{live.address}/")
        await person.page.locator("noscript a").wait_for()
        assert not await person.page.locator("button:visible").count()


async def test_words_on_buttons_do_not_widen_a_small_phone(person: Person, live: Live) -> None:
    await person.page.add_init_script("navigator.clipboard.write = () => Promise.reject(new Error('no'));")
    await person.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person["#copy:enabled"].click()
    await person.reads("#note", "does not let pages copy")
    assert await person.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


async def test_a_translation_brings_its_language_and_direction(person: Person, live: Live) -> None:
    async def translate(route: "Route") -> None:
        answer = await route.fetch()
        body = (await answer.text()).replace('lang: "en"', 'lang: "ar"').replace('dir: "ltr"', 'dir: "rtl"')
        await route.fulfill(response=answer, body=body)

    await person.page.route("**/en.js", translate)
    await person.open(f"{live.address}/")
    root = "() => [document.documentElement.lang, getComputedStyle(document.documentElement).direction]"
    assert await person.page.evaluate(root) == ["ar", "rtl"]


async def test_nothing_moves_for_those_who_want_less_motion(person: Person, live: Live) -> None:
    await person.page.emulate_media(reduced_motion="reduce")
    await person.open(f"{live.address}/")
    moving = (
        "() => [...document.querySelectorAll('*')].filter((it) => getComputedStyle(it).animationName !== 'none').length"
    )
    assert await person.page.evaluate(moving) == 0
