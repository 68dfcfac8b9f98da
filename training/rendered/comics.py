"""Comics: panels, flat figures in thick outlines, faces, halftone shades and balloons with text."""

from itertools import pairwise

from training.rendered.colours import BLACK, WHITE, Colour, mixed, palette
from training.rendered.drawings import closed_curve, halftone, hatch, rays
from training.rendered.scene import Pen, Scene, wrap
from training.rendered.words import SCRIPTS

Box = tuple[int, int, int, int]
"""Left, top, width and height."""
SKINS: tuple[Colour, ...] = ((255, 224, 196), (250, 205, 170), (240, 190, 150), (150, 100, 70), (90, 60, 45))


def comic(scene: Scene) -> None:
    """A page of up to four panels, in colours or greys."""
    random, side = scene.random, scene.side
    scene.fill(random.choice((WHITE, WHITE, (250, 245, 230), BLACK)))
    coloured = random.random() < 0.65
    outline = random.choice((4, 4, 5, 6, 8))
    gutter = random.choice((4, 8, 12))
    top = random.choice((0, 0, -side // 4))
    cuts = [top, *([] if random.random() < 0.4 else [random.randint(side // 3, side * 2 // 3)]), side]
    for upper, lower in pairwise(cuts):
        splits = [0, *([] if random.random() < 0.5 else [random.randint(side // 3, side * 2 // 3)]), side]
        for left, right in pairwise(splits):
            box = (left + gutter, upper + gutter, right - left - gutter * 2, lower - upper - gutter * 2)
            _panel(scene, box, coloured, outline)


def _panel(scene: Scene, box: Box, coloured: bool, outline: int) -> None:
    random = scene.random
    left, top, width, height = box
    greys: list[Colour] = [WHITE, (200, 200, 200), (120, 120, 120), BLACK, (235, 235, 235)]
    colours = palette(random, 5) if coloured else greys
    frame = f'<rect x="{left}" y="{top}" width="{width}" height="{height}"/>'
    scene.open(clip_path=scene.define("clipPath", frame))
    sky = random.choice((*colours, WHITE))
    scene.rect(left, top, width, height, fill=sky)
    choice = random.random()
    if choice < 0.4:
        halftone(scene, box, mixed(sky, random.choice((*colours, BLACK)), 0.7))
    elif choice < 0.55:
        rays(scene, BLACK)
    elif choice < 0.7:
        scene.rect(left, top, width, height, fill=scene.gradient([sky, random.choice(colours)], 90))
    for _ in range(random.randint(0, 3)):
        x, y = left + random.uniform(0, width), top + height * random.uniform(0.5, 1)
        path = closed_curve(scene, x, y, random.uniform(0.2, 0.5) * min(width, height))
        scene.draw("path", d=path, fill=random.choice(colours), stroke=BLACK, stroke_width=outline)
        if random.random() < 0.4:
            scene.open(clip_path=scene.define("clipPath", f'<path d="{path}"/>'))
            hatch(scene, x, y, min(width, height) * 0.3, BLACK)
            scene.close()
    size = min(width, height) * random.uniform(0.2, 0.5)
    _head(scene, left + width * random.uniform(0.3, 0.7), top + height * 0.68, size, colours, min(outline, 6))
    if random.random() < 0.8:
        _balloon(scene, box, outline)
    scene.close()
    scene.rect(left, top, width, height, fill="none", stroke=BLACK, stroke_width=outline)


def _head(scene: Scene, x: float, y: float, size: float, colours: list[Colour], outline: int) -> None:
    """A head of half-width `size`, drawn around (0, 0) of a group, with shades of one step."""
    random = scene.random
    skin, hair = random.choice((*SKINS, WHITE)), random.choice((*colours, BLACK, (110, 70, 40)))
    pen: Pen = {"stroke": BLACK, "stroke_width": outline / size, "stroke_linejoin": "round"}
    scene.open(transform=f"translate({x:.2f} {y:.2f}) rotate({random.gauss(0, 8):.2f}) scale({size:.3f})")
    length = random.uniform(0.6, 2.2)
    back = (
        f"M-1.1 -.2C-1.2 -1.6 1.2 -1.6 1.1 -.2C1.2 .4 1.1 {length:.2f} .9 {length:.2f}"
        f"H-.9C-1.1 {length:.2f} -1.2 .4 -1.1 -.2Z"
    )
    scene.draw("path", d=back, fill=mixed(hair, BLACK, 0.25), **pen)
    scene.draw("path", d="M-.3 .7V1.1C-.9 1.2 -1.5 1.4 -1.6 2.6H1.6C1.5 1.4 .9 1.2 .3 1.1V.7Z", fill=skin, **pen)
    scene.draw(
        "path", d="M-1.7 2.6C-1.5 1.5 -.9 1.3 -.5 1.2L0 1.8L.5 1.2C.9 1.3 1.5 1.5 1.7 2.6Z", fill=colours[0], **pen
    )
    face = "M-.85 -.2C-.85 .5 -.35 1 0 1C.35 1 .85 .5 .85 -.2C.85 -1.1 -.85 -1.1 -.85 -.2Z"
    scene.draw("path", d=face, fill=skin, **pen)
    fringe = _fringe(scene)
    scene.open(clip_path=scene.define("clipPath", f'<path d="{face}"/>'))
    scene.draw("path", d=fringe, fill=mixed(skin, (150, 60, 60), 0.25), transform="translate(0 .1)")
    scene.close()
    for away in (-0.4, 0.4):
        _eye(scene, away, colours, pen)
    scene.draw("path", d="M0 .45l.06 .1l-.1 .04", fill="none", **pen)
    smile = random.uniform(-0.1, 0.25)
    lips = random.choice(("none", "#c0392b"))
    scene.draw("path", d=f"M-.2 .72q.2 {smile:.2f} .4 0{'Z' if lips != 'none' else ''}", fill=lips, **pen)
    scene.draw("path", d=fringe, fill=hair, **pen)
    shine = mixed(hair, WHITE, 0.5)
    scene.draw("path", d="M-.6 -.85Q0 -1.15 .6 -.85Q0 -1 -.6 -.85Z", fill=shine)
    scene.close()


def _fringe(scene: Scene) -> str:
    """Hair over the forehead, ending in spikes."""
    random = scene.random
    path, count = "M-1 .2C-1.2 -1.5 1.2 -1.5 1 .2", random.randint(3, 7)
    for number in range(count):
        right, left = 1 - 2 * number / count, 1 - 2 * (number + 1) / count
        low, high = random.uniform(-0.3, 0.05), random.uniform(-0.55, -0.35)
        end = 0.2 if number == count - 1 else low
        middle = (left + right) / 2
        path += (
            f"Q{right - 0.1:.2f} {high:.2f} {middle:.2f} {high:.2f}Q{left + 0.12:.2f} {high:.2f} {left:.2f} {end:.2f}"
        )
    return path + "Z"


def _eye(scene: Scene, x: float, colours: list[Colour], pen: Pen) -> None:
    tall = 0.26
    scene.draw("ellipse", cx=x, cy=0.15, rx=0.2, ry=tall, fill=WHITE)
    scene.draw("ellipse", cx=x, cy=0.18, rx=0.15, ry=tall * 0.85, fill=scene.gradient([BLACK, colours[1]], 90))
    scene.draw("ellipse", cx=x, cy=0.18, rx=0.06, ry=0.1, fill=BLACK)
    scene.draw("circle", cx=x - 0.05, cy=0.08, r=0.055, fill=WHITE)
    lash = f"M{x - 0.26:.2f} .08Q{x:.2f} -.24 {x + 0.26:.2f} .08Q{x:.2f} -.14 {x - 0.26:.2f} .08Z"
    scene.draw("path", d=lash, fill=BLACK, **pen)
    scene.draw("path", d=f"M{x - 0.25:.2f} -.25Q{x:.2f} -.36 {x + 0.25:.2f} -.25", fill="none", **pen)


def _balloon(scene: Scene, box: Box, outline: int) -> None:
    """Speech in an ellipse or a box with a tail; the text decides its size."""
    random = scene.random
    left, top, width, height = box
    script = scene.script()
    space = SCRIPTS[script].space
    font, size = scene.font(script, "hand", "hand", "sans"), random.choice((24, 24, 26, 28, 32))
    words = scene.sentence(script, 2 if height < 220 else 5)
    lines = wrap(words, space, font, size, width * 0.55)[: max(1, round(height * 0.35 / size))]
    oval = random.random() < 0.6
    high, wide = len(lines) * size * 1.25 + size * (1.4 if oval else 0.6), width * (0.85 if oval else 0.75)
    x, y = left + width / 2, max(0, top) + high / 2 + random.randint(6, 20)
    pen: Pen = {"stroke": BLACK, "stroke_width": outline, "fill": WHITE, "stroke_linejoin": "round"}
    tail = f"M{x - 16} {y}L{x + random.randint(-60, 60)} {y + high / 2 + 30}L{x + 24} {y}"
    scene.draw("path", d=tail + "Z", **pen)
    if oval:
        scene.draw("ellipse", cx=x, cy=y, rx=wide / 2, ry=high / 2, **pen)
    else:
        scene.rect(x - wide / 2, y - high / 2, wide, high, rx=random.choice((0, 20)), **pen)
    scene.draw("path", d=tail, fill=WHITE)
    for number, line in enumerate(lines):
        base = y + (number - len(lines) / 2) * size * 1.25 + size * 0.95
        scene.text(x, base, space.join(line), font, size, BLACK, text_anchor="middle")
