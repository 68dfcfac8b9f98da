"""Memory of a picture and its answer, and the formats of the answer that it leaves room for."""

from collections.abc import Sequence
from dataclasses import replace

from app.errors import TooLarge
from app.options import UpscaleOptions
from app.pictures.decode import Header
from app.pictures.layout import AnswerFormat
from app.sizing import Plan, held_bytes


def fitting(
    options: UpscaleOptions, header: Header, plan: Plan, *, at_once: bool, max_bytes: int
) -> tuple[UpscaleOptions, int]:
    """Return the options with the formats whose answer is within the limit, and an upper bound on its memory.

    Args:
        at_once: see `app.sizing.held_bytes`.
        max_bytes: memory of all pictures together.

    Raises:
        TooLarge: an answer in any of the formats takes more.
    """

    def needed(formats: Sequence[AnswerFormat]) -> int:
        considered = replace(options, formats=formats)
        return held_bytes(
            options.held(header),
            plan,
            at_once=at_once,
            whole_answer=considered.whole_answer,
            encoder_bytes_per_px=considered.encoder_bytes_per_px,
            ensemble=options.ensemble and plan.passes > 0,
        )

    formats = [form for form in options.formats if needed([form]) <= max_bytes]
    if not formats:
        ways = "leave ensemble out" if options.ensemble else "ask for format=png or for a smaller answer"
        ways += ", or send parts of the picture"
        check_memory(min(needed([form]) for form in options.formats), max_bytes, ways)
    return replace(options, formats=formats), needed(formats)


def check_memory(size_bytes: int, max_bytes: int, ways: str) -> None:
    """Check that one picture or animation does not take more memory than all together may have.

    Args:
        ways: ways out, for the text of the error.

    Raises:
        TooLarge: it does.
    """
    if size_bytes > max_bytes:
        raise TooLarge(
            f"the picture and its answer would take {size_bytes} bytes of memory; the limit is {max_bytes} bytes; "
            f"{ways}"
        )
