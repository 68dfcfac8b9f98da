"""Say in words how an answer differs from its picture: in HTTP, the headers X-Format, X-Frames and X-Left-Out."""

from collections.abc import Iterator

from app.answer import Answer
from app.pictures.encode import FORMATS

COLOURS = "the description of its colours"

LOST = {
    "transparency": "transparency (now on white)",
    "bits": "all of its bits",
    "icc": "its colour profile",
    **dict.fromkeys(("cicp", "gamma", "chrm", "mdcv", "clli"), COLOURS),
    "exif": "EXIF",
    "xmp": "XMP",
    "text": "its texts",
    "dpi": "its resolution",
}
"""Words for the names of `Answer.left_out`."""


def notes_on(answer: Answer) -> str:
    """Return the differences, each with the option that avoids it; empty where there are none."""
    return "; ".join(_notes(answer))


def _notes(answer: Answer) -> Iterator[str]:
    form = answer.format
    if answer.upload_format:
        yield f"{form.name} instead of {answer.upload_format}"
    if answer.shown < answer.frames:
        option = "--frames all" if form.animated else "--frames all --format webp"
        yield f"only the first of {answer.frames} pictures; {option} keeps all of a GIF, WebP or PNG"
    if answer.left_out:
        lost = dict.fromkeys(LOST.get(name, name) for name in answer.left_out)
        option = "" if form is FORMATS["png"] else "; --format png holds more"
        yield f"without {', '.join(lost)}{option}"
