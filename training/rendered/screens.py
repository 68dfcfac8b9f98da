"""Screens: lists and chats, code, tables and web pages."""

from training.rendered.colours import BLACK, WHITE, Colour, Theme, mixed, palette, theme
from training.rendered.scene import Pen, Scene, measure, wrap
from training.rendered.windows import Screen, buttons, new_screen, text_lines
from training.rendered.words import SCRIPTS, figure


def chat(scene: Scene) -> None:
    """A list with faces and badges, or balloons of a chat, as on a telephone."""
    on = new_screen(scene, "sans")
    random, look, side, px = scene.random, on.look, scene.side, on.px
    scene.fill(look.paper)
    balloons = random.random() < 0.5
    y = random.randint(-px(30), px(10))
    space = SCRIPTS[on.script].space
    while y < side:
        if balloons:
            mine = random.random() < 0.5
            lines = wrap(scene.sentence(on.script, 8), space, on.font, on.size, min(px(180), side * 0.7))[:5]
            wide = max(measure(space.join(line), on.font, on.size) for line in lines) + px(24)
            high = len(lines) * px(18) + px(16)
            fill, left = (look.accent, side - wide - px(10)) if mine else (look.panel, px(10))
            scene.rect(left, y, wide, high, rx=px(14), fill=fill)
            for number, line in enumerate(lines):
                ink = look.on_accent if mine else look.ink
                on.text(left + px(12), y + px(21 + 18 * number), space.join(line), ink)
            y += high + px(8)
            continue
        _face(on, px(10), y + px(10), px(40))
        name = on.fitted(scene.label(on.script, 2), side - px(170))
        on.text(px(60), y + px(24), name, look.ink, 1.1, font_weight=700)
        on.text(px(60), y + px(44), on.fitted(scene.words(on.script, 6), side - px(110)), look.faint)
        on.text(side - px(10), y + px(22), figure(random), look.faint, 0.95, text_anchor="end")
        if random.random() < 0.4:
            scene.draw("circle", cx=side - px(20), cy=y + px(40), r=px(9), fill=look.accent)
        scene.line(px(60), y + px(60), side, y + px(60), look.line, px(1))
        y += px(60)


def _face(on: Screen, x: int, y: int, size: int) -> None:
    """A round cut of a photograph, or a letter on a disc."""
    scene = on.scene
    if scene.sources.photographs and scene.random.random() < 0.6:
        clip = f'<circle cx="{x + size / 2}" cy="{y + size / 2}" r="{size / 2}"/>'
        scene.open(clip_path=scene.define("clipPath", clip))
        scene.photograph(x, y, size, size)
        scene.close()
        return
    colour = palette(scene.random, 1)[0]
    scene.draw("circle", cx=x + size / 2, cy=y + size / 2, r=size / 2, fill=colour)
    middle: Pen = {"text_anchor": "middle"}
    on.text(x + size / 2, y + size * 0.65, scene.label(on.script, 1)[:1], on.look.on(colour), 1.4, **middle)


KEYWORDS = (
    "def", "class", "return", "if", "else", "for", "while", "import", "from", "const", "let", "function", "int", "void",
    "static", "public", "struct", "fn", "use",
)  # fmt: skip


def code(scene: Scene) -> None:
    """An editor or a terminal with coloured words, line numbers and indents."""
    random, side = scene.random, scene.side
    font = scene.font("english", "mono")
    unit = random.choice((2, 2, 2.5, 3))
    on = Screen(scene, "english", font, theme(random), unit)
    look = on.look
    scene.fill(look.paper)
    size, leading = on.size, round(on.size * random.uniform(1.25, 1.5))
    keyword, name, text, remark = (on.look.on(look.paper), *palette(random, 3))
    colours = [mixed(colour, look.ink, 0.25) for colour in (keyword, name, text, remark)]
    gutter = random.choice((0, on.px(32)))
    if gutter:
        scene.rect(0, 0, gutter, side, fill=look.panel)
    indent, number = 0, random.randint(1, 900)
    for y in range(leading - random.randrange(leading), side + leading, leading):
        if gutter:
            on.text(gutter - on.px(5), y, str(number), look.faint, text_anchor="end")
        number += 1
        if random.random() < 0.06:
            scene.rect(gutter, y - size, side, leading, fill=look.panel)
        if random.random() > 0.12:
            letter = max(1.0, measure("m" * 20, font, size) / 20)
            x = gutter + on.px(6) + indent * 4 * letter
            for word, colour in _tokens(scene, look, colours):
                on.text(x, y, word, colour, font_weight=700 if word in KEYWORDS else 400)
                x += (len(word) + 1) * letter
        indent = min(4, max(0, indent + random.choice((-1, 0, 0, 0, 1))))


def _tokens(scene: Scene, look: Theme, colours: list[Colour]) -> list[tuple[str, Colour]]:
    random = scene.random
    keyword, name, text, remark = colours
    first, second, third = (scene.label("english", 1).lower() for _ in range(3))
    return random.choice(
        (
            [(random.choice(KEYWORDS), keyword), (f"{first}_{second}({third}):", name)],
            [(first, look.ink), ("=", keyword), (f'"{second} {third}"', text)],
            [(f"// {scene.words('english', 5)}", remark)],
            [(f"# {scene.words('english', 4)}", remark)],
            [(random.choice(KEYWORDS), keyword), (first, name), ("!=", look.ink), (f"{random.randrange(999)};", text)],
            [(f"{first}.{second}({third}[{random.randrange(9)}],", look.ink), (f"{random.random():.3f})", text)],
            [("<" + first, keyword), (f'{second}="{third}"', text), ("/>", keyword)],
            [("$", keyword), (first, name), (f"--{second}", look.ink), (f"/{third}/{first}.txt", text)],
            [("{", look.ink)], [("}", look.ink)],
        )
    )  # fmt: skip


def table(scene: Scene) -> None:
    """A spreadsheet or a table of a document, with a head, lines and stripes."""
    on = new_screen(scene, "sans", "serif")
    random, look, side, px = scene.random, on.look, scene.side, on.px
    scene.fill(look.paper)
    high = px(random.choice((20, 24, 30)))
    widths = [px(random.choice((48, 70, 90, 120))) for _ in range(10)]
    numeric = [random.random() < 0.6 for _ in widths]
    striped, lined, headed = random.random() < 0.4, random.random() < 0.8, random.random() < 0.7
    shift = random.randint(-px(40), px(10))
    for row, y in enumerate(range(random.randint(-high, px(12)), side, high)):
        head = headed and row == 0
        ground = look.accent if head else look.panel if striped and row % 2 else look.paper
        scene.rect(0, y, side, high, fill=ground)
        x = shift
        for width, number in zip(widths, numeric, strict=True):
            content = scene.label(on.script, 1) if head or not number else figure(random)
            content = on.fitted(content, width - px(10))
            anchor: Pen = {"text_anchor": "end"} if number else {}
            at = x + (width - px(5) if number else px(5))
            on.text(
                at, y + high / 2 + on.size * 0.35, content, look.on(ground), font_weight=700 if head else 400, **anchor
            )
            if lined:
                scene.line(x, y, x, y + high, look.line, px(1))
            x += width
        if lined:
            scene.line(0, y, side, y, look.line, px(1))
    if random.random() < 0.4:
        x, y = shift + widths[0], high * 3
        scene.rect(x, y, widths[1], high, fill="none", stroke=look.accent, stroke_width=px(2))


def web_page(scene: Scene) -> None:
    """A page with a bar, cards, photographs in frames, text, icons and buttons."""
    on = new_screen(scene, "sans", "serif", "sans")
    random, look, side, px = scene.random, on.look, scene.side, on.px
    scene.fill(look.paper)
    y = -random.randrange(px(40))
    bar = random.choice((look.accent, look.ink, look.panel))
    scene.rect(0, y, side, px(44), fill=bar)
    light = look.on(bar)
    scene.icon(scene.any_icon(), px(10), y + px(10), px(24))
    on.text(px(44), y + px(28), scene.label(on.script, 1), light, 1.3, font_weight=700)
    on.text(side - px(10), y + px(28), scene.label(on.script, 2), light, text_anchor="end")
    y += px(44)
    while y < side:
        part = random.choice((_hero, _cards, _article, _article, _icon_row, buttons))
        y = part(on, px(12), y + px(10))


def _hero(on: Screen, left: int, top: int) -> int:
    scene, px = on.scene, on.px
    high = min(scene.side, px(scene.random.randint(70, 130)))
    scene.photograph(0, top, scene.side, high)
    title = scene.label(on.script, 3)
    on.text(scene.side / 2 + px(1), top + high / 2 + px(1), title, BLACK, 1.8, text_anchor="middle", font_weight=700)
    on.text(scene.side / 2, top + high / 2, title, WHITE, 1.8, text_anchor="middle", font_weight=700)
    return top + high


def _cards(on: Screen, left: int, top: int) -> int:
    scene, look, px = on.scene, on.look, on.px
    wide, high = px(100), px(140)
    rounding = px(scene.random.choice((0, 4, 10)))
    for x in range(left, scene.side, wide + px(10)):
        scene.rect(x, top, wide, high, rx=rounding, fill=look.panel, stroke=look.line, stroke_width=px(1))
        scene.photograph(x + px(6), top + px(6), wide - px(12), px(70))
        on.text(x + px(6), top + px(94), on.fitted(scene.label(on.script, 2), wide - px(12)), look.ink, font_weight=700)
        on.text(x + px(6), top + px(112), on.fitted(scene.label(on.script, 3), wide - px(12)), look.faint)
        on.text(x + px(6), top + px(131), figure(scene.random), look.accent, 1.1, font_weight=700)
    return top + high


def _article(on: Screen, left: int, top: int) -> int:
    on.text(left, top + on.px(20), on.scene.label(on.script, 4), on.look.ink, 1.6, font_weight=700)
    return text_lines(on, left, top + on.px(28))


def _icon_row(on: Screen, left: int, top: int) -> int:
    scene, px = on.scene, on.px
    size = px(32)
    for x in range(left, scene.side, px(84)):
        scene.rect(x + px(16), top, px(44), px(44), rx=px(22), fill=mixed(WHITE, on.look.accent, 0.15))
        scene.icon(scene.any_icon(), x + px(22), top + px(6), size)
        on.text(
            x + px(38), top + px(60), on.fitted(scene.label(on.script, 1), px(80)), on.look.ink, text_anchor="middle"
        )
    return top + px(66)
