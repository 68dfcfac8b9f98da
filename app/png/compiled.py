"""Functions of the libraries that `make native` compiles from the C files next to these modules."""

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
"""File, return type and argument types of each function, by name."""

log = logging.getLogger(__name__)


@cache
def compiled(name: str) -> Callable[..., int] | None:
    """Return a function that releases the GIL while it runs; None if it is not compiled."""
    file, result, arguments = FUNCTIONS[name]
    try:
        function = CDLL(str(FOLDER / f"lib{file}.so"))[name]
    except (OSError, AttributeError) as error:
        log.warning("%s.c is not compiled (run `make native`); using the slower Python version (%s)", file, error)
        return None
    function.restype, function.argtypes = result, arguments
    log.info("using the compiled %s.c", file)
    return function


def load_compiled() -> None:
    """Look up all functions, so that the log says at the start which are compiled."""
    for name in FUNCTIONS:
        compiled(name)
