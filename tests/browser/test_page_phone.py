"""The page at / on a phone, and in a window that scrolls: gestures that move the page or the picture."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.page import Person

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, ViewportSize

pytestmark = pytest.mark.anyio

ZOOMED = "(stage) => stage.classList.contains('zoomed')"
SCROLLED = "() => Math.round(scrollY)"
NEXT_FRAME = "() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))"

UNDER_THE_NOTE = """() => {
    const note = document.getElementById("removed");
    const place = note.getBoundingClientRect();
    const isUnder = (it) => {
        const { left, right, top, bottom } = it.getBoundingClientRect();
        return left < place.right && right > place.left && top < place.bottom && bottom > place.top;
    };
    const others = [...document.querySelectorAll("button, select, a")].filter((it) => !note.contains(it));
    return others.filter((it) => it.checkVisibility() && isUnder(it)).map((it) => it.id || it.outerHTML);
}"""
"""Returns the buttons below the note about removed pictures."""


class Fingers:
    """One or two fingers on the screen."""

    def __init__(self, session: "CDPSession") -> None:
        self._session = session

    async def _touch(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        await self._session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})

    async def swipe(self, x: float, start: float, end: float) -> None:
        """Move one finger up or down."""
        await self._touch("Start", (x, start))
        for step in range(1, 13):
            await self._touch("Move", (x, start + (end - start) * step / 12))
        await asyncio.sleep(0.15)  # a finger that is lifted while it moves would leave the page scrolling
        await self._touch("Move", (x, end))
        await self._touch("End")

    async def spread(self, x: float, y: float) -> None:
        """Move two fingers apart."""
        await self._touch("Start", (x - 10, y), (x + 10, y))
        for px in range(10, 60, 10):
            await self._touch("Move", (x - px, y), (x + px, y))
        await self._touch("End")


async def shown(person: Person, live: Live) -> dict[str, Any]:
    """Open the page with a picture; returns its place."""
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(60, 40)))
    await person.width_of_result()
    box = await person["#stage"].bounding_box()
    assert box
    return dict(box)


async def test_swipes_over_the_fitted_picture_scroll_the_page(phone: Person, live: Live) -> None:
    box = await shown(phone, live)
    fingers = Fingers(await phone.page.context.new_cdp_session(phone.page))
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] * 0.8
    for _ in range(2):
        await phone.page.evaluate("() => scrollTo(0, 0)")
        await fingers.swipe(x, y, y - 200)
        await phone.page.wait_for_function("() => scrollY > 50")
        assert not await phone["#stage"].evaluate(ZOOMED)
    await phone.page.evaluate("() => scrollTo(0, 0)")
    await phone.page.wait_for_function("() => scrollY === 0")
    await fingers.spread(x, y)
    await phone["#stage.zoomed"].wait_for()
    await phone["#fit"].click()
    await phone["#stage:not(.zoomed)"].wait_for()


async def test_the_wheel_scrolls_past_a_fitted_picture_and_zooms_with_ctrl(person: Person, live: Live) -> None:
    await person.page.set_viewport_size({"width": 900, "height": 500})
    box = await shown(person, live)
    await person.page.mouse.move(box["x"] + 50, box["y"] + 50)
    await person.page.mouse.wheel(0, 100)
    await person.page.wait_for_function("() => scrollY > 50")
    await person.page.keyboard.down("Control")
    await person.page.mouse.wheel(0, -100)
    await person["#stage.zoomed"].wait_for()


async def test_the_wheel_zooms_where_the_page_does_not_scroll(person: Person, live: Live) -> None:
    await person.page.set_viewport_size({"width": 1200, "height": 700})
    box = await shown(person, live)
    await person.page.mouse.move(box["x"] + 50, box["y"] + 50)
    await person.page.mouse.wheel(0, -100)
    await person["#stage.zoomed"].wait_for()
    await person.page.mouse.wheel(0, 500)  # back to all of it
    await person["#stage:not(.zoomed)"].wait_for()
    assert await person.page.evaluate(SCROLLED) == 0


async def test_a_window_without_room_for_a_while_keeps_the_picture_fitted(person: Person, live: Live) -> None:
    none: ViewportSize = {"width": 1, "height": 1}
    large: ViewportSize = {"width": 1000, "height": 800}
    await person.page.set_viewport_size(large)
    await shown(person, live)
    fitted = await person["#zoom"].text_content()
    for window in (none, large):
        await person.page.set_viewport_size(window)
        await person.page.evaluate(NEXT_FRAME)
    assert await person["#zoom"].text_content() == fitted


async def test_fields_on_a_touch_screen_are_as_large_as_safari_wants_them(phone: Person, live: Live) -> None:
    await shown(phone, live)
    for field in ("#setting-model", "#setting-size-number", "#before"):
        size_px = await phone[field].evaluate("(it) => parseFloat(getComputedStyle(it).fontSize)")
        assert size_px >= 16


async def test_the_picture_stays_in_sight_above_its_settings(phone: Person, live: Live) -> None:
    await shown(phone, live)
    await phone.page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
    await phone.page.wait_for_function("() => scrollY > 200")
    place = await phone["#stage"].bounding_box()
    assert place
    assert place["y"] == pytest.approx(0, abs=1)
    await phone["#setting-model"].focus()
    await phone.page.wait_for_function("""() => {
        const place = (id) => document.getElementById(id).getBoundingClientRect();
        return place("setting-model").top >= place("stage").bottom;  // not below the picture
    }""")


@pytest.mark.parametrize("width", [375, 1200])
async def test_the_note_about_removed_pictures_lies_on_no_button(person: Person, live: Live, width: int) -> None:
    await person.page.set_viewport_size({"width": width, "height": 667})
    await shown(person, live)
    await person.drop(broken=b"no picture")
    await person.sees(".card[data-state=failed]")
    await person[".card .show"].first.click()
    await person["#setting-size"].select_option("scale=2")
    await person["#apply"].wait_for()
    await person.page.wait_for_timeout(500)  # the cross ignores clicks right after its action has changed
    await person[".card[data-state=failed] .icon"].click()
    await person["#removed"].wait_for()
    assert await person.page.evaluate(UNDER_THE_NOTE) == []
    await person["#clear"].click()
    assert await person.page.evaluate(UNDER_THE_NOTE) == []


async def test_a_tap_on_the_note_about_removed_pictures_does_not_hold_it(phone: Person, live: Live) -> None:
    await phone.page.clock.install()
    await shown(phone, live)
    await phone["#clear"].tap()
    await phone["#removed span"].tap()
    await phone.page.clock.run_for(11_000)
    await phone.sees("#removed", 0)


async def test_the_progress_lies_on_the_preview_of_a_setting(phone: Person, live: Live, blocked: BlockedDevice) -> None:
    blocked.gate.set()
    await shown(phone, live)
    blocked.gate.clear()
    await phone["#setting-size"].select_option("scale=2")
    await phone["#again"].click()
    await phone.sees("#progress")
    await phone.sees("#tags", 0)
    layer = "(it) => Number(getComputedStyle(it).zIndex)"
    assert await phone["#progress"].evaluate(layer) > await phone["#lens"].evaluate(layer)
    blocked.gate.set()
