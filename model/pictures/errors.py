"""Why a file is not read. The service maps these to statuses of HTTP in one place, `app/pictures/decode.py`.

PictureError
├── OverLimit      more pixels, frames, scans or bytes of metadata than the limits allow
├── NotAccepted    no picture, or a kind of picture that is not read; the text names the kind
└── Damaged        truncated or corrupt
"""


class PictureError(Exception):
    """A file is not read; the text names the value, the limit and the way out."""


class OverLimit(PictureError):
    """The file passes a limit."""


class NotAccepted(PictureError):
    """The file holds no picture, or one of a kind that is not read."""


class Damaged(PictureError):
    """The file is truncated or corrupt."""


def one_line(error: Exception) -> str:
    """Return the text of a decoder's error for a sentence."""
    return " ".join(str(error).split())[:200] or type(error).__name__
