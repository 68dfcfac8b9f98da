"""The page at /docs in a browser: everything comes from the service, and the viewer can send a picture."""

from typing import TYPE_CHECKING

import pytest

from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.page import Person

if TYPE_CHECKING:
    from playwright.async_api import FilePayload

pytestmark = pytest.mark.anyio

BELOW_A_PREFIX = pytest.mark.parametrize("settings", [{"root_path": "/pictures"}], indirect=True)
UPSCALE = "#operations-upscale-upscale_v1_upscale_post"


def photo(name: str) -> "FilePayload":
    return {"name": name, "mimeType": "image/png", "buffer": encoded(noise(20, 16))}


@BELOW_A_PREFIX
async def test_the_page_shows_the_api_below_a_prefix_and_loads_nothing_from_elsewhere(
    person: Person, live: Live
) -> None:
    await person.page.goto(f"{live.address}/pictures/docs")
    await person.page.locator(UPSCALE).wait_for()
    assert person.complaints == []
    assert person.origins == {live.address}
    assert f"{live.address}/pictures/openapi.json" in person.requested


@BELOW_A_PREFIX
async def test_a_chosen_file_is_upscaled_by_try_it_out_below_a_prefix(person: Person, live: Live) -> None:
    await person.page.goto(f"{live.address}/pictures/docs")
    operation = person.page.locator(UPSCALE)
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.locator("input[type=file]").set_input_files(photo("photo.png"))
    await operation.get_by_role("button", name="Execute").click()
    picture = operation.locator(".live-responses-table img")
    await picture.wait_for()
    assert await picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 80
    assert person.complaints == []
    assert any(url.startswith(f"{live.address}/pictures/v1/upscale") for url in person.requested)
