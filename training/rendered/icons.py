"""Icons, logos and clip art on plain, graded and patterned grounds."""

from training.rendered.colours import WHITE, Colour, any_colour, css, luma, mixed, palette, readable
from training.rendered.scene import Pen, Scene, measure
from training.rendered.writing import text_size


def ground(scene: Scene) -> Colour:
    """Cover the picture by a colour, a gradient or a pattern; returns its main colour."""
    random, side = scene.random, scene.side
    light: Colour = random.choice((WHITE, (245, 245, 245), (235, 240, 250), (255, 250, 235)))
    main = random.choice((light, light, any_colour(random), palette(random, 1)[0]))
    choice = random.random()
    scene.fill(main)
    if choice < 0.25:
        scene.fill(scene.gradient([main, mixed(main, any_colour(random), 0.5)], random.randrange(360)))
    elif choice < 0.45:
        other, step = (
            mixed(main, readable(random, main), random.choice((0.1, 0.3, 1))),
            random.choice((8, 12, 16, 24, 40)),
        )
        drawing = random.choice(
            (
                f'<rect width="{step // 2}" height="{step}" fill="{css(other)}"/>',
                f'<circle cx="{step / 2}" cy="{step / 2}" r="{step / 4}" fill="{css(other)}"/>',
                f'<path d="M0 0H{step}M0 0V{step}" stroke="{css(other)}" stroke-width="4"/>',
            )
        )
        turned = f"rotate({random.choice((0, 0, 45, 30))})"
        size: Pen = {"width": step, "height": step}
        scene.fill(scene.define("pattern", drawing, patternUnits="userSpaceOnUse", patternTransform=turned, **size))
    elif choice < 0.55:
        scene.photograph(0, 0, side, side)
    return main


def icon_grid(scene: Scene) -> None:
    """Icons in rows, bare or on tiles, some with names."""
    random, side = scene.random, scene.side
    main = ground(scene)
    size = random.choice((48, 64, 64, 88, 96, 128, 128, 192))
    named = size >= 88 and random.random() < 0.5
    pitch = round(size * random.uniform(1.2, 1.6)) + (40 if named else 0)
    tile = random.choice((None, None, "round", "square", "circle"))
    tiles = palette(random, 5)
    font = scene.font("english", "sans")
    ink = readable(random, main)
    start = random.randint(-size // 2, size // 4)
    for top in range(start, side, pitch):
        for left in range(start, side, pitch):
            if tile:
                rounding = {"round": size * 0.2, "square": 0, "circle": size * 0.6}[tile]
                edge = size * 0.1
                scene.rect(left - edge, top - edge, size * 1.2, size * 1.2, rx=rounding, fill=random.choice(tiles))
            elif luma(main) < 0.45:
                scene.rect(left - 6, top - 6, size + 12, size + 12, rx=8, fill=WHITE)
            inner = size * 0.8 if tile == "circle" else size
            scene.icon(scene.any_icon(), left + (size - inner) / 2, top + (size - inner) / 2, inner)
            if named:
                name = scene.label("english", 1)
                scene.text(left + size / 2, top + size * 1.15 + 22, name, font, 24, ink, text_anchor="middle")


def logo(scene: Scene) -> None:
    """One large sign with a name and a motto."""
    random, side = scene.random, scene.side
    main = ground(scene)
    script = scene.script()
    name = scene.label(script, 2)
    font = scene.font(script, "display", "sans", "serif", "hand")
    size = text_size(scene, 48, 140)
    size = min(size, round(size * side * 0.9 / max(1, measure(name, font, size))))
    mark, ink = random.randint(160, 300), readable(random, main, 0.45)
    top = (side - mark - size * 2) // 2
    scene.icon(random.choice((scene.any_icon(), scene.any_clip_art())), (side - mark) / 2, top, mark)
    base = top + mark + size * 1.2
    weight = random.choice((400, 700))
    scene.text(side / 2, base, name, font, size, ink, text_anchor="middle", font_weight=weight)
    small = scene.font(script, "sans", "serif")
    motto, height = scene.words(script, 3), max(24, size // 3)
    if measure(motto, small, height) < side:
        scene.text(side / 2, base + size * 0.9, motto, small, height, ink, text_anchor="middle")


def clip_art(scene: Scene) -> None:
    """Drawings from a collection, one large or several that overlap."""
    random, side = scene.random, scene.side
    ground(scene)
    if random.random() < 0.5:
        size = side * random.uniform(0.8, 1.3)
        scene.icon(scene.any_clip_art(), (side - size) / 2, (side - size) / 2, size)
        return
    for _ in range(random.randint(2, 7)):
        size = random.randint(120, 320)
        left, top = random.randint(-40, side - 120), random.randint(-40, side - 120)
        scene.icon(scene.any_clip_art(), left, top, size)
