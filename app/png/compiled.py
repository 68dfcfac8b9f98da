"""Functions of the libraries that `make native` compiles from the C beside these modules."""

import logging
from collections.abc import Callable
from ctypes import CDLL, c_int, c_size_t, c_ssize_t, c_void_p
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent

FUNCTIONS = {
    "filter_rows": (
        "filters",
        c_int,
        (c_void_p, c_ssize_t, c_void_p, c_size_t, c_size_t, c_size_t, c_int, c_void_p),
    ),
    "deflate_bytes": ("deflate", c_size_t, (c_void_p, c_size_t, c_int, c_void_p)),
}
"""By name: the file that they are in, what they return and what they take, as it is written there."""

log = logging.getLogger(__name__)


@cache
def compiled(name: str) -> Callable[..., int] | None:
    """A function that lets other threads run while it works; None where it is not compiled."""
    file, result, arguments = FUNCTIONS[name]
    try:
        function = CDLL(str(FOLDER / f"lib{file}.so"))[name]
    except (OSError, AttributeError) as error:
        log.warning("slower Python does the work of %s.c, which `make native` compiles (%s)", file, error)
        return None
    function.restype, function.argtypes = result, arguments
    log.info("%s.c is compiled and in use", file)
    return function


def load_compiled() -> None:
    """Find all functions, so that the log tells at the start which are compiled."""
    for name in FUNCTIONS:
        compiled(name)
