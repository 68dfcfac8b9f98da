"""Windows of programs: title bar, menus, tools, fields, boxes to tick, buttons."""

from dataclasses import dataclass

from training.rendered.colours import WHITE, Colour, Theme, mixed, palette, theme
from training.rendered.packages import Font
from training.rendered.scene import Attribute, Scene, measure, wrap
from training.rendered.words import SCRIPTS, figure


@dataclass(frozen=True)
class Screen:
    """A scene with the choices of one interface: its pixel, script, font and colours."""

    scene: Scene
    script: str
    font: Font
    look: Theme
    unit: float
    """High-res pixels for one pixel of the interface."""

    def px(self, number: float) -> int:
        """Length in high-res pixels, whole, so that edges are sharp."""
        return round(number * self.unit)

    @property
    def size(self) -> int:
        """Height of the usual text."""
        return self.px(13)

    def text(self, x: float, y: float, text: str, fill: Colour, part: float = 1, /, **more: Attribute) -> None:
        """Add text in the font of the interface."""
        self.scene.text(x, y, text, self.font, round(self.size * part), fill, **more)

    def fitted(self, text: str, width: float) -> str:
        """Text cut short with an ellipsis where it is too wide."""
        kept = text
        while kept and measure(text, self.font, self.size) > width:
            kept = kept[:-2].rstrip()
            text = kept + "…"
        return text


def new_screen(scene: Scene, *styles: str) -> Screen:
    """Choices for one picture."""
    random = scene.random
    script = scene.script()
    return Screen(scene, script, scene.font(script, *styles), theme(random), random.choice((2, 2, 2.5, 3, 4)))


def window(scene: Scene) -> None:
    """A window with a title bar, menus, a toolbar, fields, boxes to tick and buttons."""
    on = new_screen(scene, "sans")
    random, look, side, px = scene.random, on.look, scene.side, on.px
    if scene.sources.photographs and random.random() < 0.4:
        scene.photograph(0, 0, side, side)
    else:
        scene.fill(random.choice((look.panel, look.accent, scene.gradient(palette(random, 2), 45))))
    left, top = random.choice((-px(20), 0, px(8), px(20))), random.choice((-px(10), 0, px(8), px(20)))
    scene.rect(left, top, side * 1.2, side * 1.2, rx=px(6), fill=look.paper, stroke=look.line, stroke_width=px(1))
    y = _title_bar(on, left, top)
    y = _menu_bar(on, left, y)
    while y < side:
        row = random.choice((_field, _field, _ticks, buttons, _tool_bar, _slider, text_lines))
        y = row(on, left + px(12), y + px(8))


def _title_bar(on: Screen, left: int, top: int) -> int:
    scene, look, px = on.scene, on.look, on.px
    bar = scene.random.choice((look.panel, look.accent))
    scene.rect(left, top, scene.side * 1.2, px(28), fill=bar)
    title = on.fitted(scene.label(on.script, 3), (scene.side - left - px(80)) * 0.85)
    on.text(left + px(12), top + px(19), title, look.on(bar), font_weight=700)
    for number, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        scene.draw("circle", cx=scene.side - px(14 + 18 * number), cy=top + px(14), r=px(6), fill=colour)
    return top + px(28)


def _menu_bar(on: Screen, left: int, top: int) -> int:
    x = left + on.px(12)
    while x < on.scene.side:
        name = on.scene.label(on.script, 1)
        on.text(x, top + on.px(17), name, on.look.ink)
        x += measure(name, on.font, on.size) + on.px(16)
    on.scene.line(left, top + on.px(24) + 1, on.scene.side, top + on.px(24) + 1, on.look.line, on.px(1))
    return top + on.px(24)


def _field(on: Screen, left: int, top: int) -> int:
    scene, look, px = on.scene, on.look, on.px
    wide = scene.random.randint(px(80), max(px(81), scene.side - left))
    on.text(left, top + px(13), scene.label(on.script), look.ink)
    high, edge = px(26), look.accent if scene.random.random() < 0.3 else look.line
    y = top + px(20)
    scene.rect(left, y, wide, high, rx=px(3), fill=mixed(look.paper, WHITE, 0.3), stroke=edge, stroke_width=px(1))
    content = scene.random.choice((figure(scene.random), scene.words(on.script, 3)))
    on.text(left + px(8), y + px(18), on.fitted(content, wide - px(16)), look.on(mixed(look.paper, WHITE, 0.3)))
    return y + high


def _ticks(on: Screen, left: int, top: int) -> int:
    scene, look, px = on.scene, on.look, on.px
    for _ in range(scene.random.randint(1, 4)):
        ticked, round_box = scene.random.random() < 0.5, scene.random.random() < 0.5
        fill = look.accent if ticked else look.paper
        rounding = px(7) if round_box else px(2)
        scene.rect(left, top, px(14), px(14), rx=rounding, fill=fill, stroke=look.faint, stroke_width=px(1))
        if ticked:
            tick = f"M{left + px(3)} {top + px(7)}l{px(3)} {px(3)}l{px(5)} {-px(6)}"
            scene.draw("path", d=tick, fill="none", stroke=look.on_accent, stroke_width=px(2))
        on.text(left + px(22), top + px(12), scene.label(on.script, 4), look.ink)
        top += px(22)
    return top


def buttons(on: Screen, left: int, top: int) -> int:
    """Add a row of buttons; returns where it ends."""
    scene, look, px = on.scene, on.look, on.px
    x, high, rounding = left, px(28), px(scene.random.choice((0, 3, 6, 14)))
    for number in range(scene.random.randint(1, 4)):
        name = scene.label(on.script, 2)
        wide = measure(name, on.font, on.size) + px(24)
        fill = look.accent if number == 0 else look.panel
        ink = look.on_accent if number == 0 else look.ink
        scene.rect(x, top, wide, high, rx=rounding, fill=fill, stroke=look.line, stroke_width=px(1))
        on.text(x + wide / 2, top + px(19), name, ink, text_anchor="middle")
        x += wide + px(8)
    return top + high


def _tool_bar(on: Screen, left: int, top: int) -> int:
    size = on.px(on.scene.random.choice((16, 22, 24, 32)))
    ground = on.look.paper if sum(on.look.paper) > 500 else (235, 235, 235)
    on.scene.rect(0, top - on.px(2), on.scene.side, size + on.px(4), fill=ground)
    for x in range(left, on.scene.side, size + on.px(8)):
        on.scene.icon(on.scene.any_icon(), x, top, size)
    return top + size


def _slider(on: Screen, left: int, top: int) -> int:
    scene, look, px = on.scene, on.look, on.px
    wide, at = scene.side - left - px(24), scene.random.random()
    scene.rect(left, top + px(6), wide, px(4), rx=px(2), fill=look.line)
    scene.rect(left, top + px(6), wide * at, px(4), rx=px(2), fill=look.accent)
    scene.draw(
        "circle", cx=left + wide * at, cy=top + px(8), r=px(7), fill=WHITE, stroke=look.faint, stroke_width=px(1)
    )
    return top + px(16)


def text_lines(on: Screen, left: int, top: int) -> int:
    """Add a paragraph; returns where it ends."""
    space = SCRIPTS[on.script].space
    words = on.scene.sentence(on.script, 14)
    for line in wrap(words, space, on.font, on.size, on.scene.side - left - on.px(12)):
        on.text(left, top + on.px(13), space.join(line), on.look.ink)
        top += on.px(19)
    return top
