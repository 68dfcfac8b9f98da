"""The page at /docs in a browser: everything comes from the service."""

import pytest

from tests.app.live import Live
from tests.browser.conftest import Tab

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("settings", [{"root_path": "/pictures"}], indirect=True)
async def test_the_page_shows_the_api_below_a_prefix_and_loads_nothing_from_elsewhere(tab: Tab, live: Live) -> None:
    await tab.page.goto(f"{live.address}/pictures/docs")
    await tab.page.locator("#operations-upscale-upscale_v1_upscale_post").wait_for()
    assert tab.complaints == []
    assert tab.origins == {live.address}
    assert f"{live.address}/pictures/openapi.json" in tab.requested
