"""Charts, diagrams and maps."""

import math
from itertools import pairwise

from training.rendered.colours import Colour, Theme, css, mixed, palette, theme
from training.rendered.drawings import closed_curve
from training.rendered.packages import Font
from training.rendered.scene import Pen, Scene, measure
from training.rendered.words import figure

Plot = tuple[int, int, int, int]
"""Left, top, width and height of the area inside the axes."""


def chart(scene: Scene) -> None:
    """A line, bar, pie or scatter chart with title, grid, axes, labels and legend."""
    random, side = scene.random, scene.side
    look = theme(random)
    scene.fill(look.paper)
    script = scene.script()
    font, size = scene.font(script, "sans", "sans", "serif"), random.choice((24, 26, 28, 32, 36))
    if random.random() < 0.7:
        title = round(size * 1.3)
        scene.text(
            side / 2, title + 8, scene.label(script, 3), font, title, look.ink, text_anchor="middle", font_weight=700
        )
    plot = (size * 4, size * 2 + 16, side - size * 5, side - size * 5 - 16)
    colours = palette(random, random.randint(2, 6))
    draw = random.choice((_pie, _bars, _bars, _curves, _curves, _dots))
    if draw is not _pie:
        _axes(scene, plot, font, size, look)
    draw(scene, plot, colours, look)
    if random.random() < 0.6:
        _legend(scene, colours, script, font, size, look)


def _axes(scene: Scene, plot: Plot, font: Font, size: int, look: Theme) -> None:
    random = scene.random
    left, top, width, height = plot
    step = random.choice((0.1, 0.5, 1, 5, 20, 250, 1000))
    rows, columns = random.randint(3, 6), random.randint(3, 5)
    for row in range(rows + 1):
        y = round(top + height * row / rows)
        scene.line(left, y, left + width, y, look.line, 2)
        label = f"{step * (rows - row):g}"
        scene.text(left - 10, y + size * 0.35, label, font, size, look.ink, text_anchor="end")
    upright = random.random() < 0.5
    for column in range(columns + 1):
        x = round(left + width * column / columns)
        if upright:
            scene.line(x, top, x, top + height, look.line, 2)
        scene.line(x, top + height, x, top + height + 10, look.ink, 4)
        label = str(2000 + column * 5) if step > 1 else f"{column * step:g}"
        scene.text(x, top + height + size * 1.4, label, font, size, look.ink, text_anchor="middle")
    scene.line(left, top, left, top + height, look.ink, 4)
    scene.line(left, top + height, left + width, top + height, look.ink, 4)


def _pie(scene: Scene, plot: Plot, colours: list[Colour], look: Theme) -> None:
    random = scene.random
    middle, radius = scene.side / 2, scene.side * random.uniform(0.28, 0.36)
    parts = [random.uniform(0.5, 3) for _ in colours]
    angle = random.uniform(0, math.tau)
    for part, colour in zip(parts, colours, strict=True):
        end = angle + math.tau * part / sum(parts)
        x1, y1 = middle + radius * math.cos(angle), middle + radius * math.sin(angle)
        x2, y2 = middle + radius * math.cos(end), middle + radius * math.sin(end)
        large = int(end - angle > math.pi)
        path = f"M{middle} {middle}L{x1:.2f} {y1:.2f}A{radius} {radius} 0 {large} 1 {x2:.2f} {y2:.2f}Z"
        scene.draw("path", d=path, fill=colour, stroke=look.paper, stroke_width=4)
        angle = end
    if random.random() < 0.4:
        scene.draw("circle", cx=middle, cy=middle, r=radius * 0.55, fill=look.paper)


def _bars(scene: Scene, plot: Plot, colours: list[Colour], look: Theme) -> None:
    random = scene.random
    left, top, width, height = plot
    groups, series = random.randint(3, 7), min(len(colours), random.randint(1, 3))
    slot = width / groups
    thick = max(4, round(slot * random.uniform(0.6, 0.9) / series))
    for group in range(groups):
        for number in range(series):
            high = round(height * random.uniform(0.05, 1))
            x = round(left + group * slot + slot * 0.1 + number * thick)
            scene.rect(x, top + height - high, thick, high, fill=colours[number])


def _curves(scene: Scene, plot: Plot, colours: list[Colour], look: Theme) -> None:
    random = scene.random
    left, top, width, height = plot
    for colour in colours:
        steps = random.choice((5, 8, 20, 60))
        level, points = random.random(), []
        for step in range(steps + 1):
            level = min(1.0, max(0.0, level + random.gauss(0, 1.2 / steps**0.7)))
            points.append((left + width * step / steps, top + height * (1 - level)))
        trace = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        if random.random() < 0.2:
            area = f"{left},{top + height} {trace} {left + width},{top + height}"
            scene.draw("polygon", points=area, fill=colour, fill_opacity=0.3)
        dashes = random.choice(("none", "none", "none", "16 8", "4 8"))
        thick = random.choice((4, 4, 6, 8))
        scene.draw("polyline", points=trace, fill="none", stroke=colour, stroke_width=thick, stroke_dasharray=dashes)
        if steps < 10:
            for x, y in points:
                scene.draw("circle", cx=x, cy=y, r=9, fill=colour, stroke=look.paper, stroke_width=3)


def _dots(scene: Scene, plot: Plot, colours: list[Colour], look: Theme) -> None:
    random = scene.random
    left, top, width, height = plot
    for colour in colours:
        x0, y0, spread = random.random(), random.random(), random.uniform(0.05, 0.25)
        for _ in range(random.randint(10, 60)):
            x, y = random.gauss(x0, spread), random.gauss(y0, spread)
            if 0 < x < 1 and 0 < y < 1:
                radius = random.choice((5, 6, 8))
                scene.draw("circle", cx=left + width * x, cy=top + height * y, r=radius, fill=colour, fill_opacity=0.8)


def _legend(scene: Scene, colours: list[Colour], script: str, font: Font, size: int, look: Theme) -> None:
    x, y = scene.side - size * 6, size * 3
    scene.rect(x - 8, y - 4, size * 6, len(colours) * size * 1.3 + 8, fill=look.paper, stroke=look.line, stroke_width=2)
    for number, colour in enumerate(colours):
        row = y + number * size * 1.3
        scene.rect(x, row + 4, size * 0.8, size * 0.8, fill=colour)
        scene.text(x + size, row + size * 0.8, scene.label(script, 1), font, round(size * 0.85), look.ink)


def diagram(scene: Scene) -> None:
    """Boxes with labels, joined by arrows."""
    random, side = scene.random, scene.side
    look = theme(random)
    scene.fill(look.paper)
    script = scene.script()
    font, size = scene.font(script, "sans", "sans", "hand", "mono"), random.choice((24, 26, 28, 32))
    columns, rows = random.randint(2, 3), random.randint(3, 4)
    colours = palette(random, 3)
    high, stroke = size * 2, random.choice((3, 4, 4, 6))
    tip = '<path d="M0 0L10 5L0 10z" fill="' + css(look.ink) + '"/>'
    head = scene.define(
        "marker", tip, viewBox="0 0 10 10", refX=9, refY=5, markerWidth=5, markerHeight=5, orient="auto"
    )
    boxes = []
    for row in range(rows):
        for column in range(columns):
            if random.random() < 0.85:
                names = [random.choice((scene.label(script, 1), figure(random))) for _ in range(8)]
                text = next((one for one in names if measure(one, font, size) + size < side / columns - 40), "…")
                wide = measure(text, font, size) + size
                boxes.append((side * (column + 0.5) / columns, side * (row + 0.5) / rows, wide, text))
    arrow: Pen = {"stroke": css(look.ink), "stroke_width": stroke, "marker_end": head, "fill": "none"}
    for (x1, y1, _, _), (x2, y2, wide, _) in pairwise(boxes):
        if abs(y1 - y2) < 1:
            scene.draw("path", d=f"M{x1} {y1}H{x2 - wide / 2}", **arrow)
        elif random.random() < 0.5:
            scene.draw("path", d=f"M{x1} {y1}V{(y1 + y2) / 2}H{x2}V{y2 - high / 2}", **arrow)
        else:
            scene.draw("path", d=f"M{x1} {y1}C{x1} {y2} {x2} {y1} {x2} {y2 - high / 2}", **arrow)
    rounded = random.choice((0, 0, 8, high // 2))
    for x, y, wide, text in boxes:
        colour = mixed(random.choice(colours), look.paper, random.choice((0, 0.5, 0.8)))
        scene.rect(
            x - wide / 2, y - high / 2, wide, high, rx=rounded, fill=colour, stroke=look.ink, stroke_width=stroke
        )
        scene.text(x, y + size * 0.35, text, font, size, look.on(colour), text_anchor="middle")


def street_map(scene: Scene) -> None:
    """Land, water, parks, buildings, roads with casings, and names along them."""
    random, side = scene.random, scene.side
    land: Colour = random.choice(((242, 239, 233), (235, 235, 230), (30, 38, 50), (250, 245, 225)))
    dark = sum(land) < 300
    water: Colour = (23, 50, 80) if dark else random.choice(((170, 211, 223), (120, 180, 230)))
    park: Colour = (35, 60, 50) if dark else random.choice(((200, 230, 180), (173, 209, 158)))
    road: Colour = (70, 80, 95) if dark else random.choice(((255, 255, 255), (252, 214, 164), (249, 178, 156)))
    ink: Colour = (220, 225, 230) if dark else (50, 50, 50)
    scene.fill(land)
    for colour in (park, water, park):
        scene.draw(
            "path",
            d=closed_curve(scene, random.uniform(0, side), random.uniform(0, side), random.uniform(0.2, 0.6) * side),
            fill=colour,
        )
    scene.open(transform=f"rotate({random.uniform(-45, 45):.2f} {side / 2} {side / 2})")
    pitch = random.randint(90, 150)
    blocks = [(x, y) for x in range(-side // 2, side * 3 // 2, pitch) for y in range(-side // 2, side * 3 // 2, pitch)]
    for x, y in blocks:
        for _ in range(random.randint(0, 3)):
            wide, high = random.randint(16, pitch // 2), random.randint(16, pitch // 2)
            left, top = x + random.randint(16, pitch - wide), y + random.randint(16, pitch - high)
            scene.rect(left, top, wide, high, fill=mixed(land, ink, 0.12), stroke=mixed(land, ink, 0.3), stroke_width=2)
    script = scene.script()
    font, size = scene.font(script, "sans"), random.choice((24, 26, 30))
    casing = mixed(road, ink, 0.45)
    lines = [f"M{at} {-side}V{2 * side}" for at in range(-side // 2, 2 * side, pitch)]
    lines += [f"M{-side} {at}H{2 * side}" for at in range(-side // 2, 2 * side, pitch)]
    lines.append(f"M{-side} {random.randint(0, side)}Q{side / 2} {random.randint(-side, side)} {2 * side} {side / 2}")
    lines = [line for line in lines if random.random() < 0.8]
    widths = [random.choice((16, 16, 24, 36)) for _ in lines]
    for colour, more in ((casing, 4), (road, -2)):
        for line, width in zip(lines, widths, strict=True):
            scene.draw("path", d=line, fill="none", stroke=colour, stroke_width=width + more)
    for at in range(-side // 2, 2 * side, pitch):
        halo: Pen = {"stroke": land, "stroke_width": 5, "stroke_linejoin": "round"}
        x, name = random.randint(-60, side // 2), scene.label(script, 2)
        scene.text(x, at + size * 0.35, name, font, size, land, **halo)
        scene.text(x, at + size * 0.35, name, font, size, ink)
    scene.close()
    for _ in range(random.randint(0, 4)):
        scene.icon(scene.any_icon(), random.randrange(side), random.randrange(side), random.choice((40, 48, 64)))


def country_map(scene: Scene) -> None:
    """Polygons with borders, coloured one by one, with the names of towns."""
    random, side = scene.random, scene.side
    sea: Colour = random.choice(((170, 211, 223), (255, 255, 255), (60, 110, 170), (225, 235, 245)))
    scene.fill(sea)
    cells = random.randint(3, 6)
    jitter = side / cells * 0.35
    corner = {}
    for column in range(-1, cells + 2):
        for row in range(-1, cells + 2):
            x, y = random.uniform(-jitter, jitter), random.uniform(-jitter, jitter)
            corner[column, row] = (side * column / cells + x, side * row / cells + y)
    colours = palette(random, 5)
    border: Colour = random.choice(((90, 90, 90), (255, 255, 255), (0, 0, 0)))
    width = random.choice((3, 4, 6))
    for column in range(-1, cells + 1):
        for row in range(-1, cells + 1):
            if random.random() < 0.2:
                continue
            ring = [corner[column + right, row + down] for right, down in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
            path = f"M{ring[0][0]:.2f} {ring[0][1]:.2f}" + "".join(_coast(*edge) for edge in pairwise(ring)) + "Z"
            scene.draw("path", d=path, fill=random.choice(colours), stroke=border, stroke_width=width)
    script = scene.script()
    font, size = scene.font(script, "sans", "serif"), random.choice((24, 28, 32))
    for _ in range(random.randint(3, 9)):
        x, y = random.randrange(side), random.randrange(side)
        scene.draw("circle", cx=x, cy=y, r=6, fill="#000", stroke="#fff", stroke_width=3)
        name = scene.label(script, 1)
        scene.text(x + 12, y + 8, name, font, size, "#fff", stroke="#fff", stroke_width=5, stroke_linejoin="round")
        scene.text(x + 12, y + 8, name, font, size, "#000")


def _coast(start: tuple[float, float], end: tuple[float, float], depth: int = 4) -> str:
    """A crooked line, which is the same for both neighbours: its bends come from its ends."""
    if not depth:
        return f"L{end[0]:.2f} {end[1]:.2f}"
    low, high = sorted((start, end))
    bend = 0.3 * math.sin(low[0] * 12.9898 + high[1] * 78.233)
    (x1, y1), (x2, y2) = low, high
    middle = ((x1 + x2) / 2 + bend * (y2 - y1), (y1 + y2) / 2 - bend * (x2 - x1))
    return _coast(start, middle, depth - 1) + _coast(middle, end, depth - 1)
