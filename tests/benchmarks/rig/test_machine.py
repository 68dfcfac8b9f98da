"""The memory and the threads of a process, as Linux counts them."""

import os
import resource
import threading

from benchmarks.rig.machine import process_status, reset_peak_memory

OWN = os.getpid()


def test_the_status_of_a_process_is_in_bytes_where_it_has_a_unit() -> None:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 0 < process_status(OWN, "VmRSS") <= 1024 * peak_kib + 2**24
    assert process_status(OWN, "Threads") >= threading.active_count()


def test_a_peak_that_was_reset_forgets_memory_that_is_free_again() -> None:
    memory = bytearray(2**27)
    memory[:: 2**12] = bytes(2**15)  # a byte of every page
    del memory
    before = process_status(OWN, "VmHWM")
    reset_peak_memory(OWN)
    assert process_status(OWN, "VmHWM") < before - 2**26
