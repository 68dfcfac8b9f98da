"""The memory allocator of this process, which keeps the memory of freed tensors for the next ones."""

import ctypes

_ONE_HEAP, _NO_MAPPINGS, _NEVER_SHRINK, _GROW_BY = (-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 2**26)
"""Parameters of glibc's mallopt and their values: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD (64 MiB)."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensors; does nothing with other C libraries.

    By default the memory of a large tensor goes back to the system, which clears its pages for the next one. 60 steps
    of `finetune_x4` had a tenth of the page faults with this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # macOS and musl have none
        for parameter, value in (_ONE_HEAP, _NO_MAPPINGS, _NEVER_SHRINK, _GROW_BY):
            mallopt(parameter, value)
