"""Line art and comics: pen strokes, hatching, halftone dots, flat fills, panels and balloons."""

import math

from training.rendered.colours import BLACK, WHITE, Colour, any_colour, css, mixed, palette, readable
from training.rendered.scene import Scene, wrap


def line_art(scene: Scene) -> None:
    """Pen strokes that swell and taper, closed shapes, hatching, on paper."""
    random, side = scene.random, scene.side
    paper: Colour = random.choice((WHITE, WHITE, (250, 246, 235), BLACK, any_colour(random)))
    ink = random.choice((BLACK, (30, 30, 60))) if sum(paper) > 500 else readable(random, paper, 0.5)
    scene.fill(paper)
    for _ in range(random.randint(2, 7)):
        x, y, size = random.uniform(0, side), random.uniform(0, side), random.uniform(60, 220)
        path = closed_curve(scene, x, y, size)
        fill = random.choice(("none", "none", css(paper), css(mixed(paper, ink, 0.15))))
        scene.draw("path", d=path, fill=fill, stroke=ink, stroke_width=random.choice((4, 4, 6, 8, 12)))
        if random.random() < 0.6:
            scene.open(clip_path=scene.define("clipPath", f'<path d="{path}"/>'))
            hatch(scene, x, y, size, ink)
            scene.close()
    for _ in range(random.randint(8, 40)):
        scene.draw("path", d=pen_stroke(scene, random.uniform(2, 9)), fill=ink)
    if random.random() < 0.4:
        rays(scene, ink)


def closed_curve(scene: Scene, x: float, y: float, size: float) -> str:
    """A smooth outline around a point."""
    random = scene.random
    count = random.randint(4, 10)
    points = []
    for number in range(count):
        radius = size * random.uniform(0.5, 1)
        angle = math.tau * number / count
        points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    mids = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(points, points[1:] + points[:1], strict=True)]
    path = f"M{mids[-1][0]:.2f} {mids[-1][1]:.2f}"
    curves = (f"Q{p[0]:.2f} {p[1]:.2f} {m[0]:.2f} {m[1]:.2f}" for p, m in zip(points, mids, strict=True))
    return path + "".join(curves) + "Z"


def pen_stroke(scene: Scene, width: float) -> str:
    """Outline of a curved stroke that is `width` thick in the middle and tapers to its ends."""
    random, side = scene.random, scene.side
    x, y = random.uniform(0, side), random.uniform(0, side)
    angle, length, bend = random.uniform(0, math.tau), random.uniform(30, 260), random.gauss(0, 0.3)
    dx, dy = math.cos(angle), math.sin(angle)
    end_x, end_y = x + dx * length, y + dy * length
    near, far = bend * length + width, bend * length - width
    mid_x, mid_y = x + dx * length / 2, y + dy * length / 2
    return (
        f"M{x:.2f} {y:.2f}Q{mid_x - dy * near:.2f} {mid_y + dx * near:.2f} {end_x:.2f} {end_y:.2f}"
        f"Q{mid_x - dy * far:.2f} {mid_y + dx * far:.2f} {x:.2f} {y:.2f}Z"
    )


def hatch(scene: Scene, x: float, y: float, size: float, ink: Colour) -> None:
    """Parallel strokes across a square around a point, crossed in some cases."""
    random = scene.random
    gap, width, angle = random.choice((8, 10, 12, 16, 20)), random.choice((3, 4, 4, 5)), random.uniform(0, 180)
    for turned in (angle, angle + random.choice((60, 90)))[: random.randint(1, 2)]:
        lines = "".join(f"M{x - size:.1f} {at:.1f}h{size * 2:.1f}" for at in _steps(y - size, y + size, gap))
        scene.draw("path", d=lines, stroke=ink, stroke_width=width, transform=f"rotate({turned:.1f} {x:.1f} {y:.1f})")


def rays(scene: Scene, ink: Colour) -> None:
    """Lines of speed, which narrow towards a point."""
    random, side = scene.random, scene.side
    x, y = random.uniform(0.3, 0.7) * side, random.uniform(0.3, 0.7) * side
    for _ in range(random.randint(20, 60)):
        angle, near, half = random.uniform(0, math.tau), side * random.uniform(0.25, 0.45), random.uniform(0.004, 0.02)
        tip = f"{x + near * math.cos(angle):.2f} {y + near * math.sin(angle):.2f}"
        ends = [(x + side * math.cos(angle + d), y + side * math.sin(angle + d)) for d in (-half, half)]
        scene.draw("path", d=f"M{tip}L{ends[0][0]:.2f} {ends[0][1]:.2f}L{ends[1][0]:.2f} {ends[1][1]:.2f}Z", fill=ink)


def halftone(scene: Scene, box: tuple[float, float, float, float], ink: Colour) -> None:
    """A screen of dots that grow along a direction."""
    random = scene.random
    left, top, width, height = box
    pitch, angle = random.choice((8, 10, 12, 16, 20)), random.choice((0, 15, 45, 75))
    turn = math.radians(angle)
    towards = random.uniform(0, math.tau)
    reach = math.hypot(width, height) / 2
    dots = []
    steps = int(reach / pitch) + 1
    for row in range(-steps, steps + 1):
        for column in range(-steps, steps + 1):
            x = (column * math.cos(turn) - row * math.sin(turn)) * pitch
            y = (column * math.sin(turn) + row * math.cos(turn)) * pitch
            level = 0.5 + (x * math.cos(towards) + y * math.sin(towards)) / reach / 2
            radius = pitch * 0.62 * math.sqrt(max(0.0, level))
            if radius > 1 and abs(x) < width / 2 + pitch and abs(y) < height / 2 + pitch:
                dots.append(f"M{left + width / 2 + x - radius:.2f} {top + height / 2 + y:.2f}{_circle(radius)}")
    clip = f'<rect x="{left}" y="{top}" width="{width}" height="{height}"/>'
    scene.open(clip_path=scene.define("clipPath", clip))
    scene.draw("path", d="".join(dots), fill=ink)
    scene.close()


def _circle(radius: float) -> str:
    return f"a{radius:.2f} {radius:.2f} 0 1 0 {radius * 2:.2f} 0a{radius:.2f} {radius:.2f} 0 1 0 {-radius * 2:.2f} 0Z"


def comic(scene: Scene) -> None:
    """Panels with flat figures in thick outlines, halftone shades and balloons with text."""
    random, side = scene.random, scene.side
    scene.fill(random.choice((WHITE, (250, 245, 230), BLACK)))
    coloured = random.random() < 0.7
    gutter = random.choice((12, 16, 24))
    cuts = [0, *([] if random.random() < 0.4 else [random.randint(side // 3, side * 2 // 3)]), side]
    for top, bottom in zip(cuts, cuts[1:], strict=False):
        splits = [0, *([] if random.random() < 0.5 else [random.randint(side // 3, side * 2 // 3)]), side]
        for left, right in zip(splits, splits[1:], strict=False):
            _panel(scene, (left + gutter, top + gutter, right - left - gutter * 2, bottom - top - gutter * 2), coloured)


def _panel(scene: Scene, box: tuple[int, int, int, int], coloured: bool) -> None:
    random = scene.random
    left, top, width, height = box
    greys: list[Colour] = [WHITE, (200, 200, 200), (120, 120, 120), BLACK, (235, 235, 235)]
    colours = palette(random, 5) if coloured else greys
    clip = f'<rect x="{left}" y="{top}" width="{width}" height="{height}"/>'
    scene.open(clip_path=scene.define("clipPath", clip))
    sky = random.choice(colours)
    scene.rect(left, top, width, height, fill=sky)
    if random.random() < 0.6:
        halftone(scene, box, mixed(sky, random.choice(colours), 0.7))
    outline = random.choice((4, 6, 8))
    for _ in range(random.randint(1, 4)):
        x, y = left + random.uniform(0, width), top + height * random.uniform(0.4, 1)
        size = random.uniform(0.2, 0.5) * min(width, height)
        path = closed_curve(scene, x, y, size)
        scene.draw("path", d=path, fill=random.choice(colours), stroke=BLACK, stroke_width=outline)
        if random.random() < 0.5:
            scene.open(clip_path=scene.define("clipPath", f'<path d="{path}"/>'))
            hatch(scene, x, y, size * 0.6, BLACK)
            scene.close()
    face(scene, left + width * random.uniform(0.3, 0.7), top + height * 0.65, min(width, height) * 0.25, colours, outline)
    balloon(scene, box, outline)
    scene.close()
    scene.rect(left, top, width, height, fill="none", stroke=BLACK, stroke_width=outline)


def face(scene: Scene, x: float, y: float, size: float, colours: list[Colour], outline: int) -> None:
    """A head with hair, eyes, brows and a mouth."""
    random = scene.random
    skin: Colour = random.choice(((255, 224, 196), (240, 190, 150), (150, 100, 70), (90, 60, 45), WHITE))
    pen = {"stroke": BLACK, "stroke_width": outline, "stroke_linejoin": "round"}
    hair = random.choice((*colours, BLACK))
    scene.draw("path", d=closed_curve(scene, x, y - size * 0.3, size * 1.3), fill=hair, **pen)
    scene.draw("ellipse", cx=x, cy=y, rx=size * 0.75, ry=size * random.uniform(0.8, 1), fill=skin, **pen)
    for away in (-0.3, 0.3):
        eye = size * random.uniform(0.14, 0.2)
        scene.draw("ellipse", cx=x + size * away, cy=y - size * 0.1, rx=eye, ry=eye * 1.2, fill=WHITE, **pen)
        scene.draw("circle", cx=x + size * away, cy=y - size * 0.08, r=eye * 0.5, fill=BLACK)
        brow = f"M{x + size * (away - 0.18):.2f} {y - size * 0.4:.2f}q{size * 0.18:.2f} {-size * 0.15:.2f} {size * 0.36:.2f} 0"
        scene.draw("path", d=brow, fill="none", **pen)
    smile = random.uniform(-0.15, 0.35) * size
    mouth = f"M{x - size * 0.3:.2f} {y + size * 0.4:.2f}q{size * 0.3:.2f} {smile:.2f} {size * 0.6:.2f} 0"
    scene.draw("path", d=mouth, fill="none", **pen)


def balloon(scene: Scene, box: tuple[int, int, int, int], outline: int) -> None:
    """Speech in an ellipse or a box with a tail."""
    random = scene.random
    left, top, width, _ = box
    script = scene.script()
    font, size = scene.font(script, "hand", "hand", "sans"), random.choice((24, 26, 28, 32))
    lines = wrap(scene.sentence(script, 5), " ", font, size, width * 0.55)[:4]
    high, wide = len(lines) * size * 1.25 + size * 1.2, width * 0.8
    x, y = left + width / 2, top + high / 2 + random.randint(4, 24)
    pen = {"stroke": BLACK, "stroke_width": outline, "fill": WHITE, "stroke_linejoin": "round"}
    tail = f"M{x - 16} {y}L{x + random.randint(-60, 60)} {y + high / 2 + 40}L{x + 24} {y}Z"
    scene.draw("path", d=tail, **pen)
    if random.random() < 0.6:
        scene.draw("ellipse", cx=x, cy=y, rx=wide / 2, ry=high / 2, **pen)
    else:
        scene.rect(x - wide / 2, y - high / 2, wide, high, rx=random.choice((0, 20)), **pen)
    scene.draw("path", d=tail.replace("Z", ""), fill=WHITE)
    for number, line in enumerate(lines):
        base = y + (number - len(lines) / 2) * size * 1.25 + size
        scene.text(x, base, " ".join(line), font, size, BLACK, text_anchor="middle")


def _steps(start: float, stop: float, step: float) -> list[float]:
    return [start + step * number for number in range(int((stop - start) / step) + 1)]
