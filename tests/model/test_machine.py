import os
from pathlib import Path

import pytest

from model.machine import available_bytes, usable_cores, usable_cpus


def system(folder: Path, siblings: dict[int, str]) -> Path:
    """Create Linux's files about a machine's processors."""
    for cpu, text in siblings.items():
        place = folder / f"devices/system/cpu/cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(text)
    return folder


FOUR_THREADS = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}


QUOTA_V1, QUOTA_V2 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"), ("cpu.max",)


@pytest.mark.parametrize(
    ("names", "texts", "cores"),
    [
        (QUOTA_V2, ("max 100000",), 2),
        (QUOTA_V2, ("100000 100000",), 1),
        (QUOTA_V2, ("150000 100000",), 2),
        (QUOTA_V2, ("20000 100000",), 1),
        (QUOTA_V2, ("rubbish",), 2),
        (QUOTA_V1, ("-1", "100000"), 2),
        (QUOTA_V1, ("100000", "100000"), 1),
        ((), (), 2),
    ],
)
def test_threads_of_one_core_count_once_and_a_containers_quota_counts(
    names: tuple[str, ...], texts: tuple[str, ...], cores: int, tmp_path: Path
) -> None:
    (tmp_path / "fs/cgroup/cpu").mkdir(parents=True)
    for name, text in zip(names, texts, strict=True):
        (tmp_path / "fs/cgroup" / name).write_text(text)
    assert usable_cores(FOUR_THREADS, system(tmp_path, FOUR_THREADS)) == cores


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """A machine with 4 MiB of free memory, most of it copies of files."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\nBuffers: 5 kB\n")
    return path


MEMORY_V1, MEMORY_V2 = (
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ("memory.max", "memory.current"),
)


@pytest.mark.parametrize(
    ("names", "limit", "used", "parts", "free"),
    [
        (MEMORY_V2, "3000000", "1000000", "anon 5\ninactive_file 1000\n", 2_001_000),
        (MEMORY_V2, "3000000", "4000000", "anon 5\n", 0),
        (MEMORY_V2, "max", "1000000", "inactive_file 1000\n", 4 * 2**20),
        (MEMORY_V2, "300000000", "0", "", 4 * 2**20),
        (MEMORY_V1, "3000000", "1000000", "inactive_file 7\ntotal_inactive_file 1000\n", 2_001_000),
        (MEMORY_V1, "9223372036854771712", "1000000", "", 4 * 2**20),
    ],
)
def test_the_free_memory_of_a_container_is_at_most_what_its_limit_leaves(
    names: tuple[str, str], limit: str, used: str, parts: str, free: int, meminfo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fs/cgroup"
    (folder / "memory").mkdir(parents=True)
    for name, text in zip((*names, str(Path(names[0]).with_name("memory.stat"))), (limit, used, parts), strict=True):
        (folder / name).write_text(text)
    assert available_bytes(meminfo, tmp_path) == free


def test_copies_of_files_in_memory_count_as_free(meminfo: Path, tmp_path: Path) -> None:
    assert available_bytes(meminfo, tmp_path) == 4 * 2**20


def test_systems_that_do_not_say_so_are_asked_for_free_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__)
    (tmp_path / "meminfo").write_text("no such line")
    for name in ("meminfo", "absent"):
        assert available_bytes(tmp_path / name, tmp_path) == 40_960


def test_a_machine_that_tells_nothing_has_a_core_for_each_cpu(tmp_path: Path) -> None:
    assert usable_cores([0, 1, 5], tmp_path) == 3


def test_a_system_that_binds_no_process_to_cpus_gives_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert list(usable_cpus()) == [0, 1, 2]


def test_half_of_the_memory_counts_as_free_where_the_system_knows_no_free_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf_names", {"SC_PHYS_PAGES": 0, "SC_PAGE_SIZE": 0})
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 20, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert available_bytes(tmp_path / "absent", tmp_path) == 40_960
