"""The page at / in a browser, with a real service behind it."""

import asyncio
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from app.settings import Settings
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, write_tiny_model
from tests.app.live import Live
from tests.browser.page import DONE, Person, jobs_of

if TYPE_CHECKING:
    from playwright.async_api import Dialog, Route

pytestmark = pytest.mark.anyio


async def test_one_drop_is_enough(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.sees(DONE)
    assert await person.width_of_result() == 80
    await person.reads(".card .size", "20 × 16 → 80 × 64")
    await person["#divider"].press("ArrowLeft")
    assert await person["#stage"].evaluate("(stage) => stage.style.getPropertyValue('--at')") == "49.5%"
    async with person.page.expect_download() as download:
        await person["#save"].click()
    saved = await download.value
    assert saved.suggested_filename == "photo_x4.png"
    with Image.open(await saved.path()) as picture:
        assert picture.size == (80, 64)
    assert person.complaints == []
    assert person.origins == {live.address}


async def test_the_picture_before_is_bicubic_or_its_own_pixels(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.paste(encoded(noise(20, 16)))
    await person.sees("#layer-before canvas")
    assert await person["#layer-before canvas"].evaluate("(canvas) => canvas.width") == 80
    await person["#before"].select_option("nearest")
    await person.sees("#layer-before .nearest img")
    assert await person["#layer-before img"].evaluate("(it) => getComputedStyle(it).imageRendering") == "pixelated"


async def test_the_picture_is_zoomed_and_moved_to_the_pixel_by_keys(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(60, 40)))
    await person.width_of_result()
    await person["#stage"].press("1")
    await person.reads("#zoom", "^100 %$")
    for _ in range(4):
        await person["#stage"].press("+")
    await person.reads("#zoom", "^506 %$")
    frame = person["#layer-after .frame"]
    before = await frame.evaluate("(frame) => new DOMMatrix(frame.style.transform).e")
    await person["#stage"].press("ArrowLeft")
    assert await frame.evaluate("(frame) => new DOMMatrix(frame.style.transform).e") == pytest.approx(before + 60)
    await person["#stage"].press("0")
    await person.reads("#zoom", r"^\d{3} %$")


async def test_a_picture_that_waits_is_cancelled_and_tried_again(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await blocked.at_work()
    await person.reads("#progress", "%")
    await person.page.wait_for_timeout(600)  # the cross ignores clicks right after its action has changed
    await person[".card .icon:visible"].click()
    await person.sees(".card[data-state=cancelled]")
    blocked.gate.set()
    await person[".card .text"].click()
    await person.sees(DONE)


async def test_a_reload_loses_nothing(person: Person, live: Live, blocked: BlockedDevice) -> None:
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)), three=encoded(noise(22, 16)))
    await blocked.at_work()
    await person.reload(kept=3)
    await person.sees(".card", 3)
    blocked.gate.set()
    await person.sees(DONE, 3)
    await person.sees("#layer-before canvas")
    jobs = await jobs_of(live)
    assert len(jobs) == 3


async def test_a_picture_becomes_4k_wide_by_one_choice(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person["#setting-size"].select_option("width=3840")
    await person.drop(strip=encoded(noise(480, 6)))
    await person.sees(DONE)
    assert await person.width_of_result() == 3840
    await person.reads(".card .size", "480 × 6 → 3840 × 48")


async def starting(person: Person, live: Live) -> asyncio.Event:
    """Open the page of a service that reports its parameters only after an event."""
    ready = asyncio.Event()

    async def wait(route: "Route") -> None:
        await ready.wait()
        await route.continue_()

    await person.page.route("**/v1/models", wait)
    await person.page.goto(f"{live.address}/")
    return ready


async def test_a_picture_is_removed_while_the_service_starts(person: Person, live: Live) -> None:
    ready = await starting(person, live)
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    await person[".card .icon:visible"].first.click()
    await person.sees(".card", 1)
    ready.set()
    await person.sees(DONE, 1)
    assert person.complaints == []


async def test_reset_resets_the_size_too(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person["#setting-size"].select_option("width=3840")
    await person["#reset"].click()
    await person.sees("#reset", 0)
    assert await person["#setting-size"].input_value() == "scale=4"


async def test_a_result_that_is_gone_costs_no_other_one(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    await person.sees(DONE, 2)
    for job in await jobs_of(live):
        if job.pictures[0].file_name == "two.png":
            await live.life.jobs.cancel(job)
    said = asyncio.get_running_loop().create_future()

    async def hear(dialog: "Dialog") -> None:
        said.set_result(dialog.message)
        await dialog.accept()

    person.page.on("dialog", hear)
    async with person.page.expect_download() as download:
        await person["#save-all"].click()
    with zipfile.ZipFile(await (await download.value).path()) as saved:
        assert saved.namelist() == ["one_x4.png"]
    assert await said == "Not saved, since the service no longer has the results: two_x4.png"


async def test_a_broken_file_does_not_hurt_its_batch(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), broken=encoded(noise(20, 16))[:90], two=encoded(noise(22, 16)))
    await person.sees(DONE, 2)
    await person.reads(".card[data-state=failed] .state", "the PNG file is truncated")
    await person.reads("#summary", "2 of 3 done · 1 failed")
    async with person.page.expect_download() as download:
        await person["#save-all"].click()
    with zipfile.ZipFile(await (await download.value).path()) as archive:
        assert archive.testzip() is None
        sizes = {name: Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()}
    assert sizes == {"one_x4.png": (80, 64), "two_x4.png": (88, 64)}


class TestPair:
    """Two models and the mixtures between them."""

    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        for name in ("tiny-psnr", "tiny-esrgan"):
            write_tiny_model(tmp_path, name)
        return tmp_path

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"default_model": "tiny-esrgan"})

    async def test_the_fidelity_dial_renders_a_part_of_the_picture(self, person: Person, live: Live) -> None:
        await person.open(f"{live.address}/")
        await person.drop(photo=encoded(noise(25, 20).resize((200, 190))))
        await person.sees("#layer-before canvas")
        await person["#setting-fidelity"].press("ArrowRight")
        part = person["#lens img"]
        await part.wait_for()
        assert await part.evaluate("(image) => image.naturalWidth") < 800
        assert any("/v1/upscale?fidelity=0.05" in url for url in person.requested)
        await person["#stage"].press("]")
        await person.sees("#again")
        await person["#again"].click()
        await person.reads("#tag-after", "Fidelity: 0.1$")
        await person.sees("#lens", 0)

    async def test_two_models_are_compared(self, person: Person, live: Live) -> None:
        await person.open(f"{live.address}/")
        await person.drop(photo=encoded(noise(20, 16)))
        await person.sees(DONE)
        await person["#setting-model"].select_option("tiny-psnr")
        await person["#again"].click()
        await person.reads("#tag-after", "^tiny-psnr$")
        await person["#before"].select_option(label="tiny-esrgan")
        await person.sees("#layer-before img")
        await person.reads("#tag-before", "^tiny-esrgan$")

    async def test_the_line_for_a_terminal_does_the_same(self, person: Person, live: Live) -> None:
        await person.open(f"{live.address}/")
        await person["#setting-model"].select_option("tiny-psnr")
        await person.drop(**{"it's here": encoded(noise(20, 16))})
        await person.sees(DONE)
        await person["#curl:enabled"].click()
        line = r"curl -F 'image=@it'\''s here.png' -F model=tiny-psnr ADDRESS/v1/upscale -o 'it'\''s here_x4.png'"
        assert await person["#curl-line"].text_content() == line.replace("ADDRESS", live.address)


class TestKeys:
    """A service that needs a key, below a prefix."""

    @pytest.fixture
    def settings(self, settings: Settings, token: str, tmp_path: Path) -> Settings:
        return settings.model_copy(update={"keys": tmp_path / "keys", "root_path": "/pictures"})

    async def test_a_key_is_asked_for_once_and_kept_in_the_tab(self, person: Person, live: Live, token: str) -> None:
        page = person.page
        page.set_default_timeout(60_000)
        await page.goto(f"{live.address}/pictures/")
        await person["#key"].fill("wrong")
        await person["#key"].press("Enter")
        await person.reads("#key-reason", "unknown or no longer valid")
        await person["#key"].fill(token)
        await person["#key"].press("Enter")
        await person["#setting-model"].wait_for()
        await person.drop(photo=encoded(noise(20, 16)))
        await person.sees(DONE)
        await person.reload(kept=1)
        assert await person.width_of_result() == 80
        assert not await person["#key-dialog"].is_visible()
        assert {complaint.partition(":")[0] for complaint in person.complaints} == {"Failed to load resource"}
        assert not any(token in url for url in person.requested)


@pytest.mark.parametrize("settings", [{"jobs": False}], indirect=True)
async def test_without_jobs_the_page_waits_for_its_requests(person: Person, live: Live, blocked: BlockedDevice) -> None:
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), broken=b"no picture")
    await person.reads(".card >> nth=0 >> .state", "^Working$")
    blocked.gate.set()
    await person.sees(DONE)
    await person.reads(".card[data-state=failed] .state", "not an image|not a picture|format")
    await person.reload(kept=1)
    assert await person.width_of_result() == 80


async def test_transparency_is_shown_on_a_checkerboard(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.drop(glass=encoded(Image.new("RGBA", (20, 16), (255, 0, 0, 0))))
    await person.width_of_result()
    style = await person["#layer-after .frame"].evaluate("(frame) => getComputedStyle(frame).backgroundImage")
    assert "conic-gradient" in style
    # Each side of the divider shows its own picture alone, so that none shines through the other.
    clips = [
        await person[f"#layer-{it}"].evaluate("(it) => getComputedStyle(it).clipPath") for it in ("before", "after")
    ]
    assert clips == ["inset(0px 50% 0px 0px)", "inset(0px 0px 0px 50%)"]
