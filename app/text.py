"""Text that can be written anywhere: as UTF-8, and without secrets."""


def encodable(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def without_query(text: str) -> str:
    """Leave out what follows a `?`: in a presigned URL it is a secret."""
    return text.partition("?")[0]
