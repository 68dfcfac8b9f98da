"""Load the libraries that `make native` compiles from C."""

import ctypes
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

Arguments = Sequence[type]


def load(
    path: Path, functions: Mapping[str, Arguments], *, structs: Sequence[type[ctypes.Structure]], otherwise: str
) -> ctypes.CDLL | None:
    """Load a library, and declare the arguments of its functions.

    Calls release the GIL. The library shares the threads of PyTorch, whose OpenMP is already loaded.

    Args:
        functions: argument types by name; each returns an int, unless the caller declares another type.
        structs: arguments of its functions, in the order of its function `struct_bytes`.
        otherwise: effect of a missing library, for the log.

    Returns:
        The library; None if it is not compiled, or from other sources.
    """
    try:
        library = ctypes.CDLL(str(path))
        for name, arguments in functions.items():
            getattr(library, name).argtypes = tuple(arguments)
        _check_sizes(library, structs)
    except (OSError, AttributeError) as error:
        log.warning("%s; `make native` compiles it (%s)", otherwise, error)
        return None
    return library


def _check_sizes(library: ctypes.CDLL, structs: Sequence[type[ctypes.Structure]]) -> None:
    """Check the sizes of the library's structs; with other sizes it would write to wrong addresses.

    Raises:
        AttributeError: it is from other sources.
    """
    library.struct_bytes.restype = ctypes.c_size_t
    theirs = [library.struct_bytes(number) for number in range(len(structs))]
    if theirs != [ctypes.sizeof(struct) for struct in structs]:
        raise AttributeError("it was compiled from other sources")


def has_amx(library: ctypes.CDLL | None) -> bool:
    """Return True if a library with code for AMX is loaded and this process may use the unit: see amx_unit.h."""
    return library is not None and _permitted("AMX") and bool(library.amx_available())


def has_avx512_bf16(library: ctypes.CDLL | None) -> bool:
    """Return True if a library with code for AVX512-BF16 is loaded and the processor has it."""
    return library is not None and _permitted("AMX", "FP16", "BF16") and bool(library.avx512_bf16_available())


def _permitted(*names: str) -> bool:
    """Return True unless the environment variable ONEDNN_MAX_CPU_ISA, which limits PyTorch and OpenVINO, forbids it.

    Args:
        names: parts of the limits that permit it.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return limit in ("ALL", "DEFAULT") or any(name in limit for name in names)
