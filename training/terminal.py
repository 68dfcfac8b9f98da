"""Print lines with any file names to any terminal."""

import sys

from tqdm import tqdm


def printable(text: str) -> str:
    """Convert a text for any terminal: characters that it cannot show become escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(line: str) -> None:
    """Print a line above the progress bars."""
    tqdm.write(printable(line))


def note(line: str) -> None:
    """Print a line above the progress bars to the standard error output, next to results on the standard one."""
    tqdm.write(printable(line), file=sys.stderr)
