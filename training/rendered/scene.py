"""A picture under construction: SVG markup that librsvg draws, and a record of what was used."""

import base64
import io
import re
from functools import lru_cache
from html import escape
from random import Random

import pyvips
from PIL import Image

from training.rendered.colours import Colour, css
from training.rendered.packages import Font
from training.rendered.sources import Icon, Sources
from training.rendered.words import SCRIPTS, sentence, word

Number = float | int
Attribute = Number | str | Colour
"""Value of an SVG attribute."""
Pen = dict[str, Attribute]
"""Attributes that several elements share."""
PHOTOGRAPH = "photograph"
"""Stands for a package in the record of photographs, which come from the caller."""
_SCRIPTS = tuple(SCRIPTS)


class Scene:
    """A square picture. All lengths are in its pixels; the same seed, index and sources draw the same picture."""

    def __init__(self, side: int, sources: Sources, seed: int, index: int) -> None:
        self.side = side
        self.sources = sources
        self.random = Random(f"{seed} {index}")
        self.used: dict[tuple[str, str], None] = {}
        """Names of fonts, drawings and files in the picture, each with its package, in the order of first use."""
        self._markup: list[str] = []
        self._names = 0

    def draw(self, tag: str, /, **attributes: Attribute) -> None:
        """Add an element; `stroke_width=2` is the attribute stroke-width, a tuple is a colour."""
        self._markup.append(f"<{tag}{_attributes(attributes)}/>")

    def define(self, tag: str, content: str, /, **attributes: Attribute) -> str:
        """Add a gradient, pattern or clip path; returns the `url(#…)` that names it."""
        self._names += 1
        name = f"n{self._names}"
        self._markup.append(f'<defs><{tag} id="{name}"{_attributes(attributes)}>{content}</{tag}></defs>')
        return f"url(#{name})"

    def open(self, **attributes: Attribute) -> None:
        """Begin a group, for a transform, a clip path or an opacity."""
        self._markup.append(f"<g{_attributes(attributes)}>")

    def close(self) -> None:
        """End the group that was begun last."""
        self._markup.append("</g>")

    def fill(self, colour: Colour | str) -> None:
        """Cover the whole picture."""
        self.draw("rect", width=self.side, height=self.side, fill=colour)

    def rect(self, x: Number, y: Number, width: Number, height: Number, /, **attributes: Attribute) -> None:
        """Add a rectangle."""
        self.draw("rect", x=x, y=y, width=max(0, width), height=max(0, height), **attributes)

    def line(self, x1: Number, y1: Number, x2: Number, y2: Number, stroke: Colour | str, width: Number) -> None:
        """Add a straight line."""
        self.draw("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width)

    def text(
        self, x: Number, y: Number, text: str, font: Font, size: Number, fill: Attribute, /, **more: Attribute
    ) -> None:
        """Add a line of text whose baseline begins at (x, y), or where `text_anchor` says."""
        self.use(font.family, font.package)
        place = _attributes({"x": x, "y": y, "font_family": font.family, "font_size": size, "fill": fill, **more})
        self._markup.append(f"<text{place}>{escape(text)}</text>")

    def icon(self, icon: Icon | None, x: Number, y: Number, side: Number) -> None:
        """Add a drawing of a theme, or nothing where no theme is installed."""
        if icon:
            self.use(icon.path.name, icon.package)
            data = base64.b64encode(_scalable(icon.path.read_bytes())).decode()
            self.draw("image", x=x, y=y, width=side, height=side, href=f"data:image/svg+xml;base64,{data}")

    def photograph(self, x: Number, y: Number, width: Number, height: Number) -> None:
        """Add a cut of a photograph, never enlarged, at whole pixels; without photographs, a gradient."""
        x, y, width, height = round(x), round(y), max(1, round(width)), max(1, round(height))
        for _ in range(8 if self.sources.photographs else 0):
            path = self.random.choice(self.sources.photographs)
            with Image.open(path) as picture:
                if picture.width >= width and picture.height >= height:
                    self.use(path.name, PHOTOGRAPH)
                    self.image(_cut(self.random, picture.convert("RGB"), width, height), x, y)
                    return
        self.rect(x, y, width, height, fill=self.gradient([(40, 90, 160), (230, 200, 150)]))

    def image(self, picture: Image.Image, x: int, y: int) -> None:
        """Add pixels as they are."""
        png = io.BytesIO()
        picture.save(png, "PNG", compress_level=1)
        data = base64.b64encode(png.getvalue()).decode()
        href = f"data:image/png;base64,{data}"
        self.draw("image", x=x, y=y, width=picture.width, height=picture.height, href=href)

    def gradient(self, colours: list[Colour], angle: Number | None = None) -> str:
        """Define a gradient with evenly spaced stops; without an angle it is radial."""
        last = max(1, len(colours) - 1)
        stops = "".join(f'<stop offset="{n / last}" stop-color="{css(one)}"/>' for n, one in enumerate(colours))
        if angle is None:
            return self.define("radialGradient", stops, r=0.75)
        return self.define("linearGradient", stops, gradientTransform=f"rotate({angle} .5 .5)")

    def use(self, name: str, package: str) -> None:
        """Note that the picture holds something of a package."""
        self.used[name, package] = None

    def script(self) -> str:
        """A script; half of all text is Latin."""
        return self.random.choice(("english", "latin", self.random.choice(_SCRIPTS[:-1])))

    def font(self, script: str, *styles: str) -> Font:
        """A font that covers a script, of one of the styles where there is one."""
        able = [font for font in self.sources.fonts if script in font.scripts]
        fitting = [font for font in able if font.style in styles]
        return self.random.choice(fitting or able or self.sources.fonts)

    def words(self, script: str, number: int = 9) -> str:
        """A sentence."""
        return SCRIPTS[script].space.join(self.sentence(script, number))

    def sentence(self, script: str, number: int = 9) -> list[str]:
        """Words of a sentence."""
        return sentence(self.random, script, self._word_lists(script), number)

    def label(self, script: str, most: int = 2) -> str:
        """One or a few words with a capital, as on a button."""
        lists = self._word_lists(script)
        parts = [word(self.random, script, lists) for _ in range(self.random.randint(1, most))]
        text = SCRIPTS[script].space.join(parts)
        return text if script == "georgian" else text[:1].upper() + text[1:]

    def any_icon(self) -> Icon | None:
        """An icon; every theme is as likely as another."""
        return self._any(self.sources.icons)

    def any_clip_art(self) -> Icon | None:
        """A larger drawing; every subject is as likely as another."""
        return self._any(self.sources.clip_art)

    def _any(self, groups: tuple[tuple[Icon, ...], ...]) -> Icon | None:
        """A drawing of lines and areas: some files hold pixels, which are not sharp at every size."""
        groups = tuple(group for group in groups if group)
        while groups:
            icon = self.random.choice(self.random.choice(groups))
            if b"<image" not in icon.path.read_bytes():
                return icon
        return None

    def _word_lists(self, script: str) -> list[tuple[str, ...]]:
        lists = self.sources.words.get(script, ())
        for one in lists:
            self.use("words", one.package)
        return [one.words for one in lists]

    def svg(self) -> str:
        """The whole document."""
        body = "\n".join(self._markup)
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.side}" height="{self.side}">\n{body}\n</svg>'

    def render(self) -> pyvips.Image:
        """Draw the picture; RGB, 8 bits a channel."""
        drawn = pyvips.Image.svgload_buffer(self.svg().encode(), unlimited=True)
        return drawn.flatten(background=255).colourspace("srgb")


@lru_cache(maxsize=10_000)
def measure(text: str, font: Font, size: Number) -> int:
    """Width of a line of text in pixels."""
    if not text.strip():
        return 0
    return int(pyvips.Image.text(escape(text), font=f"{font.family}, {size}", dpi=72).width)


def wrap(words: list[str], space: str, font: Font, size: Number, width: Number) -> list[list[str]]:
    """Break words into lines of at most a width, by the mean width of a letter."""
    whole = space.join(words)
    letter = measure(whole[:80], font, size) / max(1, len(whole[:80]))
    lines: list[list[str]] = [[]]
    for one in words:
        if lines[-1] and len(space.join([*lines[-1], one])) * letter > width:
            lines.append([])
        lines[-1].append(one)
    return lines


def _scalable(svg: bytes) -> bytes:
    """Add a viewBox to a drawing, without which it keeps its own size."""
    if b"viewBox" in svg:
        return svg
    own = pyvips.Image.svgload_buffer(svg, dpi=90)  # dpi of programs that omit the viewBox; libvips' unit is 1/72 inch
    box = b'<svg viewBox="0 0 %g %g"' % (own.width * 72 / 90, own.height * 72 / 90)
    return re.sub(rb"<svg\b", box, svg, count=1)


def _attributes(attributes: Pen) -> str:
    return "".join(f' {name.replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())


def _value(value: Attribute) -> str:
    if isinstance(value, tuple):
        return css(value)
    return escape(value) if isinstance(value, str) else f"{value:.6g}"


def _cut(random: Random, picture: Image.Image, width: int, height: int) -> Image.Image:
    """A window of the photograph, at its own size or reduced."""
    largest = min(picture.width / width, picture.height / height)
    factor = 1 if largest < 1.3 else random.uniform(1, largest)
    wide, high = min(picture.width, round(width * factor)), min(picture.height, round(height * factor))
    left, top = random.randint(0, picture.width - wide), random.randint(0, picture.height - high)
    window = (left, top, left + wide, top + high)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=window)
