"""Make text safe to write: valid, without control characters and secrets."""

import unicodedata


def encodable(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str, encoding: str) -> str:
    """Escape what a terminal would obey, such as control characters, or cannot show in its encoding."""
    shown = "".join(repr(char)[1:-1] if unicodedata.category(char).startswith("C") else char for char in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def without_query(text: str) -> str:
    """Remove everything after a `?`, which is a secret in a presigned URL."""
    return text.partition("?")[0]
