"""Text that can be written anywhere."""


def encodable(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
