"""Many pictures on the page at /: folders, animations, their removal, and how a batch is announced."""

from pathlib import Path

import pytest

from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise
from tests.app.live import Live, until
from tests.browser.page import DONE, Person, jobs_of

pytestmark = pytest.mark.anyio


HELD_WORKERS = """
    const post = Worker.prototype.postMessage;
    const released = new Promise((resolve) => { window.release = resolve; });
    Worker.prototype.postMessage = async function (...given) {
        await released;
        post.apply(this, given);
    };
"""
"""Makes thumbnails wait, and with them the pictures that are read one after the other."""


@pytest.mark.parametrize("settings", [{"jobs": True}, {"jobs": False}], indirect=True)
async def test_the_first_frame_of_an_animation_is_named_as_such(person: Person, live: Live) -> None:
    frames = [noise(20, 16, seed=seed) for seed in range(4)]
    await person.open(f"{live.address}/")
    await person.drop(clip=encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    await person.reads(f"{DONE} .state", "^First of 4 frames$")
    await person.drop(other=encoded(noise(20, 16)))
    await person.sees(DONE, 2)
    await person[".card .option:visible"].click()
    assert await person["#viewer-name"].text_content() == "clip.png"
    assert await person.focused() == "setting-frames"
    await person["#setting-frames"].select_option("all")
    await person["#again"].click()
    await person.reads(f"{DONE} >> nth=0 >> .state", "^$")


async def has_no_job(live: Live) -> bool:
    return not await jobs_of(live)


async def test_removed_pictures_come_back_until_the_time_for_undo_is_over(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    page = person.page
    await page.clock.install()
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)), three=encoded(noise(22, 16)))
    await person.sees(".card[data-state=failed], .card[data-state=waiting], .card[data-state=running]", 3)
    await person["#clear"].click()
    await person.reads("#said", "^3 pictures removed$")
    await person["#undo"].click()
    await person.sees(".card", 3)
    blocked.gate.set()
    await person.sees(DONE, 3)
    await page.clock.run_for(600)  # the cross ignores clicks right after its action has changed
    await person[".card .icon"].first.click()
    await person["#undo"].click()
    assert await person[".card .name"].all_text_contents() == ["one.png", "two.png", "three.png"]
    await person["#clear"].click()
    await page.mouse.move(0, 0)
    await page.clock.run_for(11_000)
    await person.sees("#removed", 0)
    await until(lambda: has_no_job(live), within_s=20)


async def test_an_undo_while_pictures_are_sent_sends_them_again(person: Person, live: Live) -> None:
    await person.open(f"{live.address}/")
    await person.page.route("**/v1/jobs", lambda route: route.abort())
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    for card in (0, 1):
        await person.reads(f".card >> nth={card} >> .state", "cannot be reached. Trying again")
    await person.page.unroute("**/v1/jobs")
    await person.page.evaluate("() => ['clear', 'undo'].forEach((id) => document.getElementById(id).click())")
    await person.sees(DONE, 2)


async def test_a_picture_removed_while_its_file_is_read_does_not_come_back(person: Person, live: Live) -> None:
    await person.page.add_init_script(HELD_WORKERS)
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)))
    await person.sees(".card", 2)
    await person["#clear"].click()
    await person.drop(three=encoded(noise(22, 16)))
    await person.page.evaluate("() => window.release()")
    await person.sees(f"{DONE} canvas")  # its file is read last
    assert await person[".card .name"].all_text_contents() == ["three.png"]


async def test_a_batch_is_announced_once_and_counted_in_the_title(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    page = person.page
    await person.open(f"{live.address}/")
    await page.evaluate("""() => {
        window.said = [];
        const note = () => said.push(document.querySelector("#said").textContent);
        new MutationObserver(note).observe(document.querySelector("#said"), { childList: true });
    }""")
    await person.drop(one=encoded(noise(20, 16)), two=encoded(noise(21, 16)), broken=b"no picture")
    await blocked.at_work()
    await person.sees(".card[data-state=failed]")
    assert await page.title() == "0 of 3 · esrgan-serve"
    blocked.gate.set()
    await person.sees(DONE, 2)
    await person.reads("#said", "^2 of 3 done · 1 failed$")
    assert await page.evaluate("() => said.length") == 1
    assert await page.title() == "esrgan-serve"


async def test_the_pictures_in_a_dropped_folder_are_taken(person: Person, live: Live, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    (folder / "sea").mkdir(parents=True)
    for name in ("10.png", "9.png", "sea/1.PNG", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(encoded(noise(20, 16)))
    await person.open(f"{live.address}/")
    session = await person.page.context.new_cdp_session(person.page)
    dragged = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": dragged})
    await person.sees(DONE, 3)
    assert await person[".card .name"].all_text_contents() == ["9.png", "10.png", "1.PNG"]
