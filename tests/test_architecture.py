"""The rooms and arrows of docs/architecture.md, enforced on every import of every module."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "model", "training", "esrgan_client")
WEB = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings"}
JOINING = ("app/networks.py",)
"""The only file of app that imports the networks."""

FLOORS = (
    {"app.__main__"},
    {"app.commands", "app.cluster"},
    {"app.server", "app.replicas"},
    {"app.http"},
    {"app.build", "app.telemetry"},
    {"app.networks", "app.lifecycle"},
    {"app.jobs"},
    {"app.upscaling"},
    {"app.animation"},
    {"app.service"},
    {"app.work"},
    {"app.sizing", "app.options", "app.answer", "app.pools"},
    {"app.access", "app.admission", "app.library", "app.stopwatch"},
    {"app.batching", "app.pictures"},
    {"app.png", "app.environment", "app.outages"},
    {"app.errors", "app.record", "app.settings", "app.threads"},
    {"app.lists", "app.text", "app.waiting"},
)
"""The rooms of app from top to bottom. A room imports only rooms on lower floors, so telemetry is a pure observer."""

MIRRORED = ("app", "model", "training")
"""Packages whose folders have a folder of the same name in tests."""

MAX_LINES = 320
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"}


def modules(folder: str) -> list[str]:
    """Return every module below a folder, as a path from the root."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))


def imported(source: str, package: str) -> Iterator[str]:
    """Yield full names of all that a module imports, also inside functions and under TYPE_CHECKING.

    Args:
        package: dotted name of the package of the module, which relative imports start from.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_of(module: str) -> set[str]:
    """Return all that a file of the repository imports, with the packages around each name."""
    path = ROOT / module
    names = imported(path.read_text(encoding="utf-8"), ".".join(Path(module).parent.parts))
    return {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}


def test_every_way_to_import_is_seen() -> None:
    source = """
import a.b, c as d
from e.f import g
from . import h
from ..i import j
def later():
    if True:
        import k
"""
    assert set(imported(source, "p.q")) == {"a.b", "c", "e.f", "e.f.g", "p.q", "p.q.h", "p.i", "p.i.j", "k"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_there(package: str) -> None:
    assert len(modules(package)) > 3


@pytest.mark.parametrize("module", modules("app"))
def test_app_does_not_meet_training(module: str) -> None:
    assert "training" not in imports_of(module)


@pytest.mark.parametrize("module", [module for module in modules("app") if module not in JOINING])
def test_only_the_files_that_join_the_parts_meet_the_networks(module: str) -> None:
    of_model = {name for name in imports_of(module) if re.match(r"model\.(?!machine\b)", name)}
    reader = {"model.pictures"} if module.startswith("app/pictures/") else set()
    assert {name for name in of_model if not name.startswith("model.pictures.")} <= reader
    assert reader or not of_model


def floor_of(name: str) -> int | None:
    """Return the index in FLOORS of the room that a dotted name of app belongs to; None for app itself."""
    room = ".".join(name.split(".")[:2])
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), None)


def room_of(module: str) -> str:
    """Return the room of a file of app: its folder or, at the top, the file itself."""
    return ".".join(Path(module).with_suffix("").parts[:2])


@pytest.mark.parametrize("module", modules("app"))
def test_a_room_of_app_imports_only_rooms_on_lower_floors(module: str) -> None:
    room = room_of(module)
    if room == "app.__init__":
        assert not {name for name in imports_of(module) if name.startswith("app")}
        return
    own_floor = floor_of(room)
    assert own_floor is not None, f"{room} is on no floor"
    others = {name for name in imports_of(module) if name.startswith("app.") and name.split(".")[1] != room[4:]}
    floors = {name: floor for name in others if (floor := floor_of(name)) is not None}
    assert {name for name, floor in floors.items() if floor <= own_floor} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    files = {".".join(Path(module).with_suffix("").parts): module for module in modules(package)}
    arrows = {name: imports_of(module) & files.keys() - {name} for name, module in files.items()}
    assert set(TopologicalSorter(arrows).static_order()) == files.keys()  # raises CycleError


@pytest.mark.parametrize("package", MIRRORED)
def test_every_folder_of_a_package_has_its_folder_of_tests(package: str) -> None:
    folders = {Path(module).parent for module in modules(package)}
    tests = {Path(test).relative_to("tests").parent for test in modules("tests") if Path(test).name.startswith("test_")}
    assert {folder for folder in tests if folder.parts[:1] == (package,)} == folders


@pytest.mark.parametrize("package", MIRRORED)
def test_a_test_named_for_a_module_is_in_the_folder_of_that_module(package: str) -> None:
    homes: dict[str, set[Path]] = {}
    for module in modules(package):
        homes.setdefault(Path(module).stem, set()).add(Path(module).parent)
    misplaced = []
    for test in modules(f"tests/{package}"):
        folder, stem = Path(test).relative_to("tests").parent, Path(test).stem.removeprefix("test_")
        if Path(test).name.startswith("test_") and folder not in homes.get(stem, {folder}):
            misplaced.append(test)
    assert misplaced == []


@pytest.mark.parametrize("module", modules("app/png"))
def test_the_png_encoder_imports_nothing_else_of_app(module: str) -> None:
    assert {name for name in imports_of(module) if name.startswith("app.") and not name.startswith("app.png")} == set()


@pytest.mark.parametrize("module", modules("model/pictures"))
def test_the_reader_of_pictures_knows_no_networks(module: str) -> None:
    names = imports_of(module)
    assert "torch" not in names
    assert {name for name in names if name.startswith("model.") and not name.startswith("model.pictures")} == set()


@pytest.mark.parametrize("module", modules("model"))
def test_model_imports_neither_of_its_users(module: str) -> None:
    assert imports_of(module).isdisjoint({"app", "training"})


@pytest.mark.parametrize("module", modules("esrgan_client"))
def test_the_client_needs_httpx_and_nothing_else_of_this_repository(module: str) -> None:
    packages = {name.split(".")[0] for name in imports_of(module)}
    assert packages - sys.stdlib_module_names <= {"esrgan_client", "httpx"}


@pytest.mark.parametrize("package", ["app", "model", "training"])
def test_only_callers_import_the_client(package: str) -> None:
    assert all("esrgan_client" not in imports_of(module) for module in modules(package))


@pytest.mark.parametrize("module", modules("training"))
def test_training_does_not_meet_app(module: str) -> None:
    assert "app" not in imports_of(module)


@pytest.mark.parametrize("module", modules("model") + modules("training"))
def test_the_web_lives_in_app(module: str) -> None:
    assert imports_of(module).isdisjoint(WEB)


@pytest.mark.parametrize("module", modules("model") + modules("app"))
def test_torchvision_lives_in_training(module: str) -> None:
    assert "torchvision" not in imports_of(module)


@pytest.mark.parametrize("module", modules("app/batching"))
def test_batching_knows_neither_torch_nor_the_web_nor_pictures(module: str) -> None:
    assert imports_of(module).isdisjoint({"torch", "numpy", "PIL", "app.pictures"} | WEB)


@pytest.mark.parametrize("module", modules("app/access"))
def test_keys_and_limits_know_nothing_of_the_web(module: str) -> None:
    assert imports_of(module).isdisjoint(WEB)


@pytest.mark.parametrize("module", modules("app"))
def test_the_libraries_of_operators_stay_in_their_files(module: str) -> None:
    prometheus = {"prometheus_client"}
    known = {
        "app/telemetry/traces.py": {"opentelemetry"},
        "app/telemetry/metrics.py": prometheus,
        "app/telemetry/job_metrics.py": prometheus,
        "app/http/endpoints/metrics.py": prometheus,
    }
    assert imports_of(module) & {"opentelemetry", "prometheus_client"} <= known.get(module, set())


@pytest.mark.parametrize("module", [module for package in PACKAGES for module in modules(package)])
def test_every_module_is_named_for_what_it_does(module: str) -> None:
    path = Path(module)
    assert {*path.parent.parts, path.stem}.isdisjoint(NAMELESS)


@pytest.mark.parametrize("module", [module for package in PACKAGES for module in modules(package)])
def test_every_module_can_be_read_in_one_sitting(module: str) -> None:
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) < MAX_LINES


@pytest.mark.parametrize("module", modules("benchmarks/rig"))
def test_parts_of_benchmarks_import_no_command(module: str) -> None:
    own = {name for name in imports_of(module) if name.startswith("benchmarks.") and name.count(".") == 1}
    assert own <= {"benchmarks.rig"}


@pytest.mark.parametrize("module", modules("model/files"))
def test_weight_files_are_read_without_what_runs_networks(module: str) -> None:
    assert imports_of(module).isdisjoint({"model.upscaler", "model.reliable", "model.convolutions"})


@pytest.mark.parametrize("module", modules("model/convolutions"))
def test_convolutions_know_no_weight_files(module: str) -> None:
    assert imports_of(module).isdisjoint({"model.files", "model.upscaler"})


@pytest.mark.parametrize("module", modules("model"))
def test_compiled_code_is_called_in_one_room(module: str) -> None:
    allocator = module == "model/device.py"  # which asks jemalloc or glibc to free memory
    assert module.startswith("model/convolutions/native/") or allocator or "ctypes" not in imports_of(module)
