"""The page at /docs in a browser: everything comes from the service, and requests can be tried out."""

from pathlib import Path

import pytest

from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.conftest import Tab

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("settings", [{"root_path": "/pictures"}], indirect=True)
@pytest.mark.parametrize("prefix", ["", "/pictures"])
async def test_a_picture_is_upscaled_from_the_page_below_any_prefix(
    tab: Tab, live: Live, prefix: str, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(encoded(noise(5, 4)))
    await tab.page.goto(f"{live.address}{prefix}/docs")
    upscale = tab.page.locator("#operations-upscale-upscale_v1_upscale_post")
    await upscale.locator(".opblock-summary-control").click()
    await upscale.get_by_role("button", name="Try it out").click()
    await upscale.locator("input[type=file]").first.set_input_files(picture)
    await upscale.get_by_role("button", name="Execute").click()
    shown = upscale.locator(".live-responses-table img")
    await shown.wait_for()
    width_px = "image => image.decode().then(() => image.naturalWidth)"
    assert await shown.evaluate(width_px) == 20
    assert tab.complaints == []
    assert tab.origins == {live.address}
    assert f"{live.address}/pictures/v1/upscale" in tab.requested
