"""Flat colour, gradients and regular patterns over the whole RGB cube."""

import math

from training.rendered.colours import any_colour, css
from training.rendered.scene import Pen, Scene


def uniform(scene: Scene) -> None:
    """One colour."""
    scene.fill(any_colour(scene.random))


def flat_shapes(scene: Scene) -> None:
    """Large shapes with straight and curved edges, each of one colour."""
    random, side = scene.random, scene.side
    scene.fill(any_colour(random))
    for _ in range(random.choice((1, 3, 8, 20))):
        x, y, size = random.uniform(0, side), random.uniform(0, side), random.uniform(40, side * 0.6)
        colour = any_colour(random)
        shape = random.choice(("rect", "circle", "triangle", "turned", "ring"))
        if shape == "rect":
            scene.rect(round(x - size / 2), round(y - size / 2), round(size), round(size * 0.7), fill=colour)
        elif shape == "circle":
            scene.draw("ellipse", cx=x, cy=y, rx=size / 2, ry=size * random.uniform(0.2, 0.5), fill=colour)
        elif shape == "ring":
            scene.draw("circle", cx=x, cy=y, r=size / 2, fill="none", stroke=colour, stroke_width=random.randint(4, 60))
        else:
            count = 3 if shape == "triangle" else 4
            angles = sorted(random.uniform(0, math.tau) for _ in range(count))
            points = " ".join(f"{x + size * math.cos(a):.2f},{y + size * math.sin(a):.2f}" for a in angles)
            scene.draw("polygon", points=points, fill=colour)


def swatches(scene: Scene) -> None:
    """A grid of colours, with or without gaps."""
    random, side = scene.random, scene.side
    scene.fill(any_colour(random))
    step, gap = random.choice((24, 32, 48, 64, 96, 128)), random.choice((0, 0, 4, 8))
    start = any_colour(random)
    walk = random.random() < 0.4
    for y in range(0, side, step):
        for x in range(0, side, step):
            ramp = (x * 255 // side, y * 255 // side, start[2])
            scene.rect(x, y, step - gap, step - gap, fill=ramp if walk else any_colour(random))


def gradient(scene: Scene) -> None:
    """Smooth gradients between colours that are far apart, over all of the picture or in shapes."""
    random, side = scene.random, scene.side

    def smooth() -> str:
        colours = [any_colour(random) for _ in range(random.choice((2, 2, 2, 3, 5)))]
        return scene.gradient(colours, random.choice((None, random.randrange(360))))

    scene.fill(smooth())
    for _ in range(random.choice((0, 0, 1, 3, 6))):
        x, y, size = random.uniform(0, side), random.uniform(0, side), random.uniform(80, 300)
        if random.random() < 0.5:
            scene.draw("circle", cx=x, cy=y, r=size / 2, fill=smooth())
        else:
            scene.rect(x - size / 2, y - size / 2, size, size * 0.6, rx=random.choice((0, 24)), fill=smooth())


def pattern(scene: Scene) -> None:
    """Checkerboards, stripes, grids and dots of a few pixels, straight or turned, in up to four fields."""
    random, side = scene.random, scene.side
    half = side // 2
    quarters = [(left, top, half) for left in (0, half) for top in (0, half)]
    for left, top, size in random.choice(([(0, 0, side)], quarters)):
        ground, ink = any_colour(random), any_colour(random)
        scene.rect(left, top, size, size, fill=ground)
        thick = random.choice((4, 4, 5, 6, 8, 8, 10, 12, 16, 24, 32))
        drawing = random.choice(
            (
                f'<path d="M0 0h{thick}v{thick * 2}h{thick}v{-thick}H0z" fill="{css(ink)}"/>',
                f'<rect width="{thick * 2}" height="{thick}" fill="{css(ink)}"/>',
                f'<rect width="{thick}" height="{thick * 2}" fill="{css(ink)}"/>',
                f'<path d="M{thick} 0v{thick * 2}M0 {thick}h{thick * 2}" stroke="{css(ink)}" stroke-width="4"/>',
                f'<circle cx="{thick}" cy="{thick}" r="{thick * 0.6}" fill="{css(ink)}"/>',
            )
        )
        turned = random.choice((0, 0, 0, 45, random.uniform(0, 90)))
        tile: Pen = {"width": thick * 2, "height": thick * 2, "patternTransform": f"rotate({turned:.2f})"}
        scene.rect(left, top, size, size, fill=scene.define("pattern", drawing, patternUnits="userSpaceOnUse", **tile))


def thin_lines(scene: Scene) -> None:
    """Lines as wide as one low-res pixel, at any angle: fans, rings, bundles and grids."""
    random, side = scene.random, scene.side
    ground = any_colour(random)
    scene.fill(ground)
    manner = random.choice(("fan", "rings", "random", "random", "bundle"))
    x, y = random.uniform(0, side), random.uniform(0, side)
    width = random.choice((3, 4, 4, 4, 5, 6))
    if manner == "fan":
        ink = any_colour(random)
        for number in range(count := random.choice((24, 36, 60))):
            angle = math.tau * number / count
            scene.line(x, y, x + 2 * side * math.cos(angle), y + 2 * side * math.sin(angle), ink, width)
    elif manner == "rings":
        ink, gap = any_colour(random), random.choice((10, 14, 20, 32))
        for number in range(1, side * 2 // gap):
            scene.draw("circle", cx=x, cy=y, r=number * gap, fill="none", stroke=ink, stroke_width=width)
    elif manner == "random":
        for _ in range(random.randint(10, 50)):
            x1, y1, x2, y2 = (random.uniform(-50, side + 50) for _ in range(4))
            scene.line(x1, y1, x2, y2, any_colour(random), width)
    else:
        for _ in range(random.randint(2, 5)):
            ink, angle, gap = any_colour(random), random.uniform(0, 180), random.choice((10, 12, 16, 24))
            lines = "".join(f"M{-side} {n * gap}H{2 * side}" for n in range(-40, random.randint(0, 60)))
            scene.draw(
                "path", d=lines, stroke=ink, stroke_width=width, transform=f"rotate({angle:.2f} {x:.1f} {y:.1f})"
            )
