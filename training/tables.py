"""Markdown tables that can also be read in a terminal."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Write a Markdown table with columns of even width.

    Args:
        texts: columns of text at the left; the others are numbers, written to the right.
    """
    widths = [max(3, *(len(row[number]) for row in (head, *rows))) for number in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if number < texts else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width if number < texts else "-" * (width - 1) + ":") for number, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])
