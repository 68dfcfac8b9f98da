"""Make text safe to write: valid UTF-8, without secrets."""


def encodable(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def without_query(text: str) -> str:
    """Remove everything after a `?`, which is a secret in a presigned URL."""
    return text.partition("?")[0]
