"""Line art: pen strokes, outlines, hatching, rays, halftone dots and plans."""

import math

from training.rendered.colours import BLACK, WHITE, Colour, any_colour, css, mixed, readable
from training.rendered.scene import Scene


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


def floor_plan(scene: Scene) -> None:
    """Rooms with thick walls, doors, measures and names, as architects draw them."""
    random, side = scene.random, scene.side
    paper: Colour = random.choice((WHITE, WHITE, (245, 240, 225), (20, 60, 130)))
    ink = BLACK if sum(paper) > 500 else WHITE
    scene.fill(paper)
    script = scene.script()
    font = scene.font(script, "sans", "hand", "mono")
    wall, thin = random.choice((8, 10, 14)), random.choice((3, 4))
    columns = sorted(random.sample(range(60, side - 60, 30), 2))
    rows = sorted(random.sample(range(60, side - 60, 30), 2))
    for left, right in zip((32, *columns), (*columns, side - 32), strict=True):
        for top, bottom in zip((32, *rows), (*rows, side - 32), strict=True):
            wide, high = right - left, bottom - top
            scene.rect(left, top, wide, high, fill="none", stroke=ink, stroke_width=wall)
            door = min(56, wide - 24, high - 24)
            if door > 16:
                scene.line(left + 12, top, left + 12 + door, top, paper, wall + 2)
                swing = f"M{left + 12} {top}v{door}a{door} {door} 0 0 0 {door} {-door}"
                scene.draw("path", d=swing, fill="none", stroke=ink, stroke_width=thin)
            if wide > 130 and high > 60:
                middle = {"text_anchor": "middle"}
                name, area = scene.label(script, 1), f"{wide * high / 4000:.1f} m²"
                scene.text(left + wide / 2, top + high / 2, name, font, 24, ink, **middle)
                scene.text(left + wide / 2, top + high / 2 + 28, area, font, 24, ink, **middle)
    for at in (*columns, 32, side - 32):
        scene.line(at, 4, at, 20, ink, thin)
    scene.line(32, 12, side - 32, 12, ink, thin)


def _steps(start: float, stop: float, step: float) -> list[float]:
    return [start + step * number for number in range(int((stop - start) / step) + 1)]
