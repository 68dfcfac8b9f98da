"""Pictures made of cells: pixel art, bar codes, games, and the dials and digits of instruments."""

import math

from PIL import Image

from training.rendered.colours import BLACK, WHITE, Colour, any_colour, mixed, palette, readable, theme
from training.rendered.scene import Pen, Scene
from training.rendered.words import figure


def pixel_art(scene: Scene) -> None:
    """Sprites and tiles of large pixels, as old games show them."""
    random, side = scene.random, scene.side
    cell = random.choice((8, 8, 8, 12, 12, 16))
    cells = -(-side // cell)
    colours = palette(random, 6)
    sky, dusk, ground = colours[0], mixed(colours[0], colours[1], 0.5), colours[2]
    grid = Image.new("RGB", (cells, cells), sky)
    horizon = random.randint(cells // 2, cells)
    for y in range(cells):
        for x in range(cells):
            if y >= horizon:
                grid.putpixel((x, y), mixed(ground, BLACK, 0.3) if (x * 7 + y * 3) % 11 == 0 else ground)
            elif (x + y) % 2 and y > horizon // 2:
                grid.putpixel((x, y), dusk)  # an ordered dither, as with few colours
    for _ in range(random.randint(2, 12)):
        _sprite(scene, grid, random.choice(((8, 8), (8, 12), (12, 12), (16, 16))), palette(random, 3))
    scene.image(grid.resize((cells * cell, cells * cell), Image.Resampling.NEAREST), 0, 0)


def _sprite(scene: Scene, grid: Image.Image, size: tuple[int, int], colours: list[Colour]) -> None:
    """A figure that is its own mirror image, with a dark outline."""
    random = scene.random
    wide, high = size
    left, top = random.randint(-2, grid.width - 4), random.randint(-2, grid.height - 4)
    body = {
        (x, y)
        for x in range(wide // 2)
        for y in range(high)
        if random.random() < 1.3 - math.hypot(1 - x / (wide / 2), y / high * 2 - 1) ** 2
    }
    body |= {(wide - 1 - x, y) for x, y in body}
    edge = {(x + dx, y + dy) for x, y in body for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0))} - body
    bands = sorted(random.sample(range(1, high), 2))
    shades = {y: colours[sum(y >= band for band in bands)] for y in range(high)}
    for (x, y), colour in [*((spot, BLACK) for spot in edge), *((spot, shades[spot[1]]) for spot in body)]:
        if 0 <= left + x < grid.width and 0 <= top + y < grid.height:
            grid.putpixel((left + x, top + y), colour)


def bar_code(scene: Scene) -> None:
    """A bar code with its number, or a square of modules with three marks in its corners."""
    random, side = scene.random, scene.side
    paper = random.choice((WHITE, WHITE, (250, 250, 245), any_colour(random)))
    ink = BLACK if sum(paper) > 380 else WHITE
    scene.fill(paper)
    unit = random.choice((4, 5, 6, 8, 12))
    if random.random() < 0.5:
        x, top, bottom = random.randint(10, 60), random.randint(0, 120), random.randint(300, 420)
        while x < side - 20:
            bar = unit * random.randint(1, 3)
            scene.rect(x, top, bar, bottom - top, fill=ink)
            x += bar + unit * random.randint(1, 3)
        size = random.choice((32, 40, 56))
        number = "  ".join(str(random.randrange(10)) for _ in range(13))
        font = scene.font("english", "mono", "sans")
        scene.text(side / 2, bottom + size, number, font, size, ink, text_anchor="middle")
        return
    most = (side - 32) // unit
    count = random.randint(max(21, most // 2), max(21, most))
    start = (side - count * unit) // 2
    dark = {(x, y) for x in range(count) for y in range(count) if random.random() < 0.5}
    for left, top in ((0, 0), (count - 7, 0), (0, count - 7)):
        for x in range(-1, 8):
            for y in range(-1, 8):
                ring = max(abs(x - 3), abs(y - 3))
                (dark.discard if ring in (2, 4) else dark.add)((left + x, top + y))
    inside = [(x, y) for x, y in sorted(dark) if 0 <= x < count and 0 <= y < count]
    path = "".join(f"M{start + x * unit} {start + y * unit}h{unit}v{unit}h{-unit}z" for x, y in inside)
    scene.draw("path", d=path, fill=ink, shape_rendering="crispEdges")


def game(scene: Scene) -> None:
    """A board of chess, of go, a sudoku or a crossword, whole or a corner of it."""
    random, side = scene.random, scene.side
    cell = random.choice((40, 48, 56, 64, 80, 96))
    light, dark = random.choice(
        (((240, 217, 181), (181, 136, 99)), ((238, 238, 210), (118, 150, 86)), palette(random, 2))
    )
    draw = random.choice((_chess, _go, _numbers, _crossword))
    scene.fill(light if draw in (_chess, _go) else WHITE)
    font = scene.font("english", "sans", "serif")
    for row in range(-(-side // cell)):
        for column in range(-(-side // cell)):
            draw(scene, row, column, cell, font.family, dark)


def _chess(scene: Scene, row: int, column: int, cell: int, family: str, dark: Colour) -> None:
    random = scene.random
    if (row + column) % 2:
        scene.rect(column * cell, row * cell, cell, cell, fill=dark)
    if random.random() < 0.5:
        font = next((one for one in scene.sources.fonts if one.family == "DejaVu Sans"), scene.font("english"))
        black = random.random() < 0.5
        x, y = (column + 0.5) * cell, (row + 0.82) * cell
        fill, edge = (BLACK, WHITE) if black else (WHITE, BLACK)
        piece = chr(random.randint(0x265A, 0x265F))
        pen: Pen = {"stroke": edge, "stroke_width": max(2, cell // 24), "text_anchor": "middle"}
        scene.text(x, y, piece, font, cell * 0.9, fill, **pen)


def _go(scene: Scene, row: int, column: int, cell: int, family: str, dark: Colour) -> None:
    x, y, half = (column + 0.5) * cell, (row + 0.5) * cell, cell / 2
    scene.draw("path", d=f"M{x - half} {y}h{cell}M{x} {y - half}v{cell}", stroke=BLACK, stroke_width=3)
    if scene.random.random() < 0.4:
        fill = scene.random.choice((BLACK, WHITE))
        scene.draw("circle", cx=x, cy=y, r=cell * 0.46, fill=fill, stroke=BLACK, stroke_width=3)


def _numbers(scene: Scene, row: int, column: int, cell: int, family: str, dark: Colour) -> None:
    random = scene.random
    scene.rect(column * cell, row * cell, cell, cell, fill="none", stroke=(150, 150, 150), stroke_width=3)
    if column % 3 == 0 and row % 3 == 0:
        scene.rect(column * cell, row * cell, cell * 3, cell * 3, fill="none", stroke=BLACK, stroke_width=6)
    if random.random() < 0.55:
        font = next(one for one in scene.sources.fonts if one.family == family)
        ink = random.choice((BLACK, BLACK, dark))
        place: Pen = {"text_anchor": "middle"}
        scene.text(
            (column + 0.5) * cell, (row + 0.75) * cell, str(random.randint(1, 9)), font, cell * 0.7, ink, **place
        )


def _crossword(scene: Scene, row: int, column: int, cell: int, family: str, dark: Colour) -> None:
    random = scene.random
    black = random.random() < 0.22
    fill = BLACK if black else WHITE
    scene.rect(column * cell, row * cell, cell, cell, fill=fill, stroke=BLACK, stroke_width=3)
    if not black and random.random() < 0.6:
        font = next(one for one in scene.sources.fonts if one.family == family)
        letter = random.choice("ABCDEFGHIJKLMNOPRSTUVWXYZ")
        place: Pen = {"text_anchor": "middle"}
        scene.text((column + 0.5) * cell, (row + 0.82) * cell, letter, font, cell * 0.65, BLACK, **place)


def instrument(scene: Scene) -> None:
    """A dial with a scale and a hand, above digits made of segments."""
    random, side = scene.random, scene.side
    look = theme(random)
    scene.fill(look.paper)
    x, y, radius = side / 2, side * 0.42, side * random.uniform(0.28, 0.38)
    scene.draw(
        "circle", cx=x, cy=y, r=radius * 1.08, fill=look.panel, stroke=look.ink, stroke_width=random.choice((4, 8))
    )
    font, size = scene.font("english", "sans", "display"), random.choice((24, 28, 32))
    steps, most = random.choice((10, 12, 20)), random.choice((1, 5, 10, 20))
    for step in range(steps * 5 + 1):
        angle = math.radians(135 + 270 * step / (steps * 5))
        large = step % 5 == 0
        near = radius * (0.86 if large else 0.93)
        ends = [(x + r * math.cos(angle), y + r * math.sin(angle)) for r in (near, radius)]
        scene.line(*ends[0], *ends[1], look.ink, 5 if large else 3)
        if large and step // 5 % 2 == 0:
            at = radius * 0.7
            place: Pen = {"text_anchor": "middle"}
            label = str(step // 5 * most)
            scene.text(
                x + at * math.cos(angle), y + at * math.sin(angle) + size / 3, label, font, size, look.ink, **place
            )
    turn = random.uniform(0, 270)
    hand = f"M{-radius * 0.1} 0L0 {-radius * 0.03}L{radius * 0.85} 0L0 {radius * 0.03}Z"
    scene.draw("path", d=hand, fill=look.accent, transform=f"translate({x} {y}) rotate({135 + turn:.2f})")
    scene.draw("circle", cx=x, cy=y, r=radius * 0.07, fill=look.ink)
    ground = random.choice((BLACK, (200, 215, 190), look.panel))
    scene.rect(side * 0.15, side * 0.8, side * 0.7, side * 0.17, fill=ground)
    digits = scene.font("digits", "display")
    text = random.choice((f"{random.randrange(24):02d}:{random.randrange(60):02d}", f"{random.random() * 999:.2f}"))
    ink = readable(random, ground, 0.4)
    scene.text(side / 2, side * 0.94, text, digits, round(side * 0.12), ink, text_anchor="middle")
    scene.text(8, size + 8, scene.label("english", 2), font, size, look.ink)
    scene.text(side - 8, size + 8, figure(random), font, size, look.ink, text_anchor="end")
