"""Line art: pen strokes, outlines, hatching, rays, halftone dots and plans."""

import math

from training.rendered.colours import BLACK, WHITE, Colour, any_colour, css, mixed, readable
from training.rendered.scene import Pen, Scene


def line_art(scene: Scene) -> None:
    """Pen strokes that swell and taper, closed shapes, hatching, on paper."""
    random = scene.random
    paper: Colour = random.choice((WHITE, WHITE, (250, 246, 235), BLACK, any_colour(random)))
    ink = random.choice((BLACK, (30, 30, 60))) if sum(paper) > 500 else readable(random, paper, 0.5)
    scene.fill(paper)
    random.choice((_forms, _flowers, _houses, _rosette))(scene, paper, ink)
    if random.random() < 0.25:
        rays(scene, ink)


def _forms(scene: Scene, paper: Colour, ink: Colour) -> None:
    """Closed shapes with hatching, and loose strokes."""
    random, side = scene.random, scene.side
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


def _flowers(scene: Scene, paper: Colour, ink: Colour) -> None:
    """Stems with leaves and blossoms of pointed petals."""
    random, side = scene.random, scene.side
    pen: Pen = {"fill": paper, "stroke": ink, "stroke_width": random.choice((3, 4, 5, 6))}
    for _ in range(random.randint(2, 6)):
        x, y, lean = random.uniform(0, side), random.uniform(0.1, 0.6) * side, random.uniform(-90, 90)
        scene.draw("path", d=f"M{x:.1f} {y:.1f}Q{x:.1f} {side * 0.8} {x + lean:.1f} {side}", **{**pen, "fill": "none"})
        for leaf in range(random.randint(2, 6)):
            at, turned, size = y + (side - y) * (leaf + 1) / 8, random.uniform(-60, 60), random.uniform(40, 90)
            half = size / 2
            shape = f"M0 0Q{half:.1f} {-half:.1f} {size:.1f} 0Q{half:.1f} {half:.1f} 0 0M0 0H{size * 0.8:.1f}"
            mirror = random.choice((1, -1))
            place = f"translate({x:.1f} {at:.1f}) scale({mirror} 1) rotate({turned:.1f})"
            scene.draw("path", d=shape, transform=place, **pen)
        petals, size, wide = random.randint(5, 14), random.uniform(40, 110), random.uniform(0.15, 0.4)
        petal = f"M0 0C{size * wide:.1f} {-size * 0.3:.1f} {size * wide:.1f} {-size * 0.8:.1f} 0 {-size:.1f}"
        petal += f"C{-size * wide:.1f} {-size * 0.8:.1f} {-size * wide:.1f} {-size * 0.3:.1f} 0 0"
        petal += f"M0 {-size * 0.3:.1f}V{-size * 0.7:.1f}"
        for number in range(petals):
            turn = f"translate({x:.1f} {y:.1f}) rotate({360 * number / petals:.2f})"
            scene.draw("path", d=petal, transform=turn, **pen)
        scene.draw("circle", cx=x, cy=y, r=size * 0.25, **{**pen, "fill": random.choice((paper, ink))})


def _houses(scene: Scene, paper: Colour, ink: Colour) -> None:
    """A street of houses with roofs, windows and hatched walls."""
    random, side = scene.random, scene.side
    pen: Pen = {"fill": paper, "stroke": ink, "stroke_width": random.choice((3, 4, 5, 6)), "stroke_linejoin": "round"}
    for base in (side * 0.55, side * 0.95):
        x = -random.randrange(60)
        while x < side:
            wide, high = random.randint(70, 160), random.randint(100, 260)
            top = base - high
            scene.rect(x, top, wide, high, **pen)
            roof = f"M{x - 10} {top}L{x + wide / 2} {top - random.randint(20, 90)}L{x + wide + 10} {top}Z"
            scene.draw("path", d=roof, **pen)
            if random.random() < 0.5:
                scene.open(clip_path=scene.define("clipPath", f'<path d="{roof}"/>'))
                hatch(scene, x + wide / 2, top - 40, 120, ink)
                scene.close()
            pane, gap = random.randint(16, 30), random.randint(12, 24)
            for left in range(x + gap, x + wide - pane, pane + gap):
                for upper in range(round(top) + gap, round(base) - pane * 2, pane * 2 + gap):
                    fill = random.choice((paper, paper, ink))
                    scene.rect(left, upper, pane, pane * 1.5, **{**pen, "fill": fill})
            x += wide + random.randint(0, 30)


def _rosette(scene: Scene, paper: Colour, ink: Colour) -> None:
    """Rings of repeated curves around one point, as in a mandala."""
    random, side = scene.random, scene.side
    middle, fold = f"{side / 2} {side / 2}", random.choice((8, 12, 16, 20, 24))
    radius = 24.0
    while radius < side * 0.72:
        depth, half = random.uniform(24, 80), math.pi / fold
        bulge, width = random.uniform(0.4, 1.4), random.choice((3, 4, 4, 6))
        end_x, end_y = radius * math.sin(half), -radius * math.cos(half)
        tip, out = -(radius + depth), (radius + depth) * math.sin(half) * bulge
        path = f"M{-end_x:.2f} {end_y:.2f}Q{-out:.2f} {tip * 0.9:.2f} 0 {tip:.2f}"
        path += f"Q{out:.2f} {tip * 0.9:.2f} {end_x:.2f} {end_y:.2f}"
        fill = random.choice((paper, paper, mixed(paper, ink, 0.2), ink))
        dot = random.random() < 0.5
        for number in range(fold):
            turn = f"translate({middle}) rotate({360 * number / fold:.3f})"
            scene.draw("path", d=path + "Z", fill=fill, stroke=ink, stroke_width=width, transform=turn)
            if dot:
                scene.draw("circle", cx=0, cy=tip * 0.93, r=6, fill=ink, transform=turn)
        radius += depth * 0.9


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
