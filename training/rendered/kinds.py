"""All kinds of pictures that are rendered."""

from collections.abc import Callable

from training.rendered import boards, charts, comics, drawings, fields, icons, screens, windows, writing
from training.rendered.scene import Scene

KINDS: dict[str, Callable[[Scene], None]] = {
    "text": writing.page_of_text,
    "window": windows.window,
    "comic": comics.comic,
    "chart": charts.chart,
    "icons": icons.icon_grid,
    "code": screens.code,
    "shapes": fields.flat_shapes,
    "poster": writing.poster,
    "web page": screens.web_page,
    "game": boards.game,
    "clip art": icons.clip_art,
    "gradient": fields.gradient,
    "scan": writing.scan,
    "street map": charts.street_map,
    "pixel art": boards.pixel_art,
    "chat": screens.chat,
    "line art": drawings.line_art,
    "pattern": fields.pattern,
    "diagram": charts.diagram,
    "floor plan": drawings.floor_plan,
    "table": screens.table,
    "logo": icons.logo,
    "thin lines": fields.thin_lines,
    "country map": charts.country_map,
    "small text": writing.page_of_text,
    "bar code": boards.bar_code,
    "swatches": fields.swatches,
    "instrument": boards.instrument,
    "uniform": fields.uniform,
}
"""Function that draws each kind; pictures take the kinds in turn."""
