"""All kinds of pictures that are rendered."""

from collections.abc import Callable

from training.rendered import charts, drawings, fields, icons, screens, writing
from training.rendered.scene import Scene

KINDS: dict[str, Callable[[Scene], None]] = {
    "text": writing.page_of_text,
    "window": screens.window,
    "comic": drawings.comic,
    "chart": charts.chart,
    "icons": icons.icon_grid,
    "code": screens.code,
    "shapes": fields.flat_shapes,
    "poster": writing.poster,
    "web page": screens.web_page,
    "clip art": icons.clip_art,
    "gradient": fields.gradient,
    "scan": writing.scan,
    "street map": charts.street_map,
    "chat": screens.chat,
    "line art": drawings.line_art,
    "pattern": fields.pattern,
    "diagram": charts.diagram,
    "table": screens.table,
    "logo": icons.logo,
    "thin lines": fields.thin_lines,
    "country map": charts.country_map,
    "small text": writing.page_of_text,
    "swatches": fields.swatches,
    "uniform": fields.uniform,
}
"""Draws of each kind; pictures take them in turn."""
