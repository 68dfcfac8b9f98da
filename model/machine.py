"""Count the cores and the free memory of this machine, or of the container."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SYSTEM = Path("/sys")
MEMORY = Path("/proc/meminfo")

CONTAINER_QUOTA = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files of cgroup v2 and v1: CPU quota of a container, and the period of the quota."""

CONTAINER_MEMORY = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Files of cgroup v2 and v1: memory limit of a container, its usage, and the usage by kind."""


def usable_cpus() -> Iterable[int]:
    """Return the numbers of the logical CPUs that this process may use; systems other than Linux give all."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def usable_cores(cpus: Iterable[int], system: Path = SYSTEM) -> int:
    """Count the physical cores of some logical CPUs, up to the quota of the container; at least 1.

    Args:
        system: path of Linux's /sys.
    """
    cores = len({_siblings(cpu, system) for cpu in cpus})
    return max(1, min([cores, *_quota_of_container(system / "fs/cgroup")]))


def _quota_of_container(cgroup: Path) -> Iterator[int]:
    for names in CONTAINER_QUOTA:
        try:
            quota, period = " ".join((cgroup / name).read_text(encoding="ascii") for name in names).split()
            if int(quota) > 0:  # v1 writes -1 for none, v2 `max`
                yield round(int(quota) / int(period))
        except (OSError, ValueError):  # no container, no quota, or the other version
            continue


def available_bytes(meminfo: Path = MEMORY, system: Path = SYSTEM) -> int:
    """Return the free memory of the machine, or of the container if less is left there.

    The page cache counts as free: the kernel reclaims it when memory is short.
    """
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB$", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    free = 1024 * int(found[1]) if found else _free_pages() * os.sysconf("SC_PAGE_SIZE")
    return min([free, *_left_in_container(system / "fs/cgroup")])


def _free_pages() -> int:
    """Return the number of free pages, or half of all pages where the system does not know (macOS)."""
    known = "SC_AVPHYS_PAGES" in os.sysconf_names
    return os.sysconf("SC_AVPHYS_PAGES") if known else os.sysconf("SC_PHYS_PAGES") // 2


def _left_in_container(cgroup: Path) -> Iterator[int]:
    for names in CONTAINER_MEMORY:
        try:
            limit, used, parts = ((cgroup / name).read_text(encoding="ascii") for name in names)
            copies = re.findall(r"^(?:total_)?inactive_file (\d+)$", parts, re.MULTILINE)
            yield max(0, int(limit) - int(used) + max(map(int, copies), default=0))
        except (OSError, ValueError):  # no container, no limit, or the other version
            continue


def _siblings(cpu: int, system: Path) -> str:
    try:
        return (system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:  # unknown: each counts as a core
        return str(cpu)
