"""Text: pages in many scripts, scans and posters."""

from training.rendered.colours import BLACK, WHITE, Colour, any_colour, mixed, palette, readable, theme
from training.rendered.packages import Font
from training.rendered.scene import Pen, Scene, measure, wrap
from training.rendered.words import SCRIPTS, figure

READING = ("sans", "serif", "sans", "serif", "mono", "hand")


def text_size(scene: Scene, least: float = 24, most: float = 90) -> int:
    """Height of letters in high-res pixels; small ones are commoner."""
    return int(least * (most / least) ** (scene.random.random() ** 2))


def paragraph(scene: Scene, script: str, font: Font, size: int, box: tuple[int, int, int, int], ink: Colour) -> int:
    """Set sentences into a box (left, top, width, height), ragged or justified; returns where the last line ends."""
    random, rules = scene.random, SCRIPTS[script]
    left, top, width, height = box
    leading = round(size * random.uniform(1.25, 1.6))
    words: list[str] = []
    while len(words) * size * 2 < width * height / leading * 1.5 and len(words) < 400:
        words += scene.sentence(script)
    lines = wrap(words, rules.space, font, size, width)[: max(1, height // leading)]
    justified = rules.space and random.random() < 0.4 and not rules.right_to_left
    y = top + size
    for line in lines:
        if justified and len(line) > 3 and line is not lines[-1]:
            _justify(scene, line, font, size, left, y, width, ink)
        elif rules.right_to_left:
            scene.text(left + width, y, rules.space.join(line), font, size, ink, direction="rtl")
        else:
            scene.text(left, y, rules.space.join(line), font, size, ink)
        y += leading
    return y


def _justify(scene: Scene, words: list[str], font: Font, size: int, left: int, y: int, width: int, ink: Colour) -> None:
    widths = [measure(word, font, size) for word in words]
    gap = max(size * 0.2, (width - sum(widths)) / (len(words) - 1))
    x: float = left
    for word, wide in zip(words, widths, strict=True):
        scene.text(x, y, word, font, size, ink)
        x += wide + gap


def page_of_text(scene: Scene) -> None:
    """A heading and paragraphs: dark on light, light on dark, or coloured on coloured."""
    random, side = scene.random, scene.side
    look = theme(random)
    scene.fill(look.paper)
    script = scene.script()
    font, size = scene.font(script, random.choice(READING)), text_size(scene)
    margin = random.choice((0, size // 2, size, size * 2))
    columns = 2 if size < 34 and random.random() < 0.3 else 1
    width = (side - margin * 2 - (columns - 1) * size) // columns
    for column in range(columns):
        y = margin if random.random() < 0.7 else -random.randrange(size)
        x = margin + column * (width + size)
        while y < side:
            if random.random() < 0.4:
                heading = round(size * random.uniform(1.2, 2))
                bold = scene.font(script, "sans", "serif", "display")
                title = scene.label(script, 4)
                heading = min(heading, round(heading * width / max(1, measure(title, bold, heading)) * 0.9))
                scene.text(x, y + heading, title, bold, heading, look.accent, font_weight=700)
                y += round(heading * 1.5)
            lines = random.randint(2, 8) * size * 2
            y = paragraph(scene, script, font, size, (x, y, width, lines), look.ink) + size // 2
            if random.random() < 0.4:
                script = random.choice((script, scene.script()))
                font = scene.font(script, random.choice(READING))


def scan(scene: Scene) -> None:
    """Black text on paper that is a little grey, slightly turned, as from a scanner."""
    random, side = scene.random, scene.side
    level = random.randint(225, 255)
    tint = random.choice(((0, 0, 0), (0, -2, -8), (-2, -2, 0), (0, -4, -16)))
    paper: Colour = (level + tint[0], max(0, level + tint[1]), max(0, level + tint[2]))
    dusk = mixed(paper, BLACK, random.uniform(0, 0.08))
    scene.fill(scene.gradient([paper, paper, dusk], random.randrange(360)))
    ink = mixed(BLACK, paper, random.uniform(0, 0.2))
    script = scene.script()
    font, size = scene.font(script, random.choice(("serif", "serif", "mono", "sans"))), text_size(scene, 24, 56)
    scene.open(transform=f"rotate({random.gauss(0, 0.8):.2f} {side / 2} {side / 2})")
    left = random.randint(-size, size * 2)
    y = random.randint(-size, size)
    while y < side:
        choice = random.random()
        if choice < 0.1:
            price: Pen = {"text_anchor": "end"}
            for _ in range(random.randint(2, 6)):  # rows of a receipt or a table of contents
                scene.text(left, y + size, scene.label(script), font, size, ink)
                scene.text(side - abs(left), y + size, figure(random), font, size, ink, **price)
                y += round(size * 1.3)
        elif choice < 0.2:
            scene.line(left, y + size, side - left, y + size, ink, random.choice((2, 3, 4)))
            y += size * 2
        elif choice < 0.3:
            heading = round(size * 1.5)
            scene.text(side / 2, y + heading, scene.label(script, 3), font, heading, ink, text_anchor="middle")
            y += heading * 2
        elif choice < 0.4:
            scene.text(left, y + size, f"{scene.label(script)}: {figure(random)}", font, size, ink)
            y += size * 2
        else:
            box = (left, y, random.choice((side - left - size, side)), random.randint(3, 9) * size)
            y = paragraph(scene, script, font, size, box, ink) + size // 2
    scene.close()


def poster(scene: Scene) -> None:
    """Few large words, filled, outlined or in shadow, on colour, gradient or photograph."""
    random, side = scene.random, scene.side
    paper = any_colour(random)
    choice = random.random()
    if choice < 0.35:
        scene.fill(paper)
    elif choice < 0.6:
        scene.fill(scene.gradient([paper, any_colour(random)], random.randrange(360)))
    else:
        scene.photograph(0, 0, side, side)
    script = scene.script()
    y = random.randint(0, 60)
    turned = random.choice((0, 0, 0, random.uniform(-25, 25), 90))
    scene.open(transform=f"rotate({turned:.2f} {side / 2} {side / 2})")
    while y < side:
        font = scene.font(script, "display", "sans", "serif", "hand")
        size = text_size(scene, 30, 200)
        ink = readable(random, paper) if choice < 0.6 else random.choice((WHITE, BLACK, any_colour(random)))
        _headline(scene, y + size, font, size, ink, scene.label(script, 3))
        y += round(size * 1.35)
        script = random.choice((script, script, scene.script()))
    scene.close()


def _headline(scene: Scene, y: int, font: Font, size: int, ink: Colour, text: str) -> None:
    random = scene.random
    anchor = random.choice(("start", "middle"))
    x = 20 if anchor == "start" else scene.side // 2
    weight = random.choice((400, 700, 700, 900))
    manner = random.choice(("plain", "plain", "outlined", "shadow", "gradient", "band"))
    outline = readable(random, ink)
    if manner == "band":
        scene.rect(0, y - size, scene.side, size * 1.3, fill=outline)
    if manner == "shadow":
        away = max(2, size // 20)
        scene.text(x + away, y + away, text, font, size, outline, text_anchor=anchor, font_weight=weight)
    if manner == "outlined":
        scene.text(
            x, y, text, font, size, outline, text_anchor=anchor, font_weight=weight,
            stroke=outline, stroke_width=max(4, size // 10), stroke_linejoin="round",
        )  # fmt: skip
    fill = scene.gradient(palette(random, 2), 90) if manner == "gradient" else ink
    scene.text(x, y, text, font, size, fill, text_anchor=anchor, font_weight=weight)
