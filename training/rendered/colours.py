"""Choose colours: from the whole RGB cube, and sets of them that can be read on each other."""

import colorsys
from dataclasses import dataclass
from random import Random

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)


def css(colour: Colour) -> str:
    """Colour as SVG writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def any_colour(random: Random) -> Colour:
    """A colour of the RGB cube; each channel is 0 or 255 in two cases out of five, so corners and edges are common."""
    red, green, blue = (random.choice((0, 255, *[random.randrange(256)] * 3)) for _ in range(3))
    return red, green, blue


def mixed(first: Colour, second: Colour, part: float) -> Colour:
    """Blend of two colours; `part` 0 is the first and 1 the second."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue


def luma(colour: Colour) -> float:
    """Brightness in [0, 1] by the weights of BT.601."""
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def readable(random: Random, paper: Colour, least: float = 0.35) -> Colour:
    """A colour whose brightness differs from that of the paper by `least` or more."""
    for _ in range(20):
        ink = any_colour(random)
        if abs(luma(ink) - luma(paper)) >= least:
            return ink
    return BLACK if luma(paper) > 0.5 else WHITE


def palette(random: Random, number: int) -> list[Colour]:
    """Colours of different hue and one manner: pastel, plain, strong or dark."""
    saturation, value = random.choice(((0.35, 0.95), (0.6, 0.8), (0.85, 0.9), (1.0, 1.0), (0.7, 0.55)))
    start = random.random()
    spread = random.choice((1.0, 1.0, 0.5, 0.25))
    colours: list[Colour] = []
    for index in range(number):
        hue = (start + spread * index / number + random.uniform(-0.03, 0.03)) % 1
        red, green, blue = colorsys.hsv_to_rgb(hue, min(1.0, saturation * random.uniform(0.8, 1.2)), value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    random.shuffle(colours)
    return colours


@dataclass(frozen=True)
class Theme:
    """Colours of a user interface or a document."""

    paper: Colour
    panel: Colour
    ink: Colour
    faint: Colour
    line: Colour
    accent: Colour
    on_accent: Colour

    def on(self, ground: Colour) -> Colour:
        """Ink or paper, whichever can be read on the ground."""
        return max(self.ink, self.paper, key=lambda colour: abs(luma(colour) - luma(ground)))


def theme(random: Random) -> Theme:
    """Light in half of the cases, else dark, else coloured."""
    manner = random.choice(("light", "light", "light", "dark", "dark", "coloured"))
    if manner == "light":
        paper: Colour = random.choice((WHITE, WHITE, (250, 250, 250), (253, 246, 227), (242, 244, 248)))
        ink: Colour = random.choice((BLACK, (33, 37, 41), (51, 51, 51), (20, 30, 60)))
    elif manner == "dark":
        paper = random.choice((BLACK, (30, 30, 30), (40, 42, 54), (13, 17, 23), (0, 43, 54)))
        ink = random.choice((WHITE, (230, 230, 230), (200, 210, 220)))
    else:
        paper = any_colour(random)
        ink = readable(random, paper, 0.5)
    accent = palette(random, 1)[0]
    return Theme(
        paper=paper,
        panel=mixed(paper, ink, random.choice((0.04, 0.07, 0.12))),
        ink=ink,
        faint=mixed(ink, paper, 0.4),
        line=mixed(paper, ink, random.choice((0.15, 0.25, 0.5))),
        accent=accent,
        on_accent=WHITE if luma(accent) < 0.6 else BLACK,
    )
