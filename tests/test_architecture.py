"""The rooms and arrows of docs/architecture.md, enforced on every import of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "model", "training")
WEB = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings"}
JOINING = ("app/main.py", "app/__main__.py")
"""The only files of app that know the networks."""

MOST_LINES = 320
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"}


def modules(folder: str) -> list[str]:
    """Return every module below a folder, as a path from the root."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))


def imported(source: str, package: str) -> Iterator[str]:
    """Full names of all that a module imports, wherever in it, also inside functions and under TYPE_CHECKING.

    Args:
        package: dotted name of the package that the module lies in, which relative imports start from.
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
    """What a file of the repository imports, with the packages around each name."""
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
    of_model = {name for name in imports_of(module) if name.split(".")[0] == "model"}
    reader = {"model", "model.pictures"} if module.startswith("app/pictures/") else set()
    assert {name for name in of_model if not name.startswith("model.pictures.")} <= reader
    assert reader or not of_model


@pytest.mark.parametrize("module", modules("model/pictures"))
def test_the_reader_of_pictures_knows_no_networks(module: str) -> None:
    names = imports_of(module)
    assert "torch" not in names
    assert {name for name in names if name.startswith("model.") and not name.startswith("model.pictures")} == set()


@pytest.mark.parametrize("module", modules("model"))
def test_model_imports_neither_of_its_users(module: str) -> None:
    assert imports_of(module).isdisjoint({"app", "training"})


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
    foreign = {"torch", "numpy", "PIL", "app.http", "app.pictures", "app.main", "app.server", "app.service"}
    assert imports_of(module).isdisjoint(foreign | WEB)


@pytest.mark.parametrize("module", modules("app/access"))
def test_keys_and_limits_know_nothing_of_the_web(module: str) -> None:
    assert imports_of(module).isdisjoint({"app.http", "app.server"} | WEB)


@pytest.mark.parametrize("module", modules("app"))
def test_the_libraries_of_operators_stay_in_their_files(module: str) -> None:
    prometheus = {"prometheus_client"}
    known = {
        "app/telemetry/traces.py": {"opentelemetry"},
        "app/telemetry/metrics.py": prometheus,
        "app/http/metrics.py": prometheus,
    }
    assert imports_of(module) & {"opentelemetry", "prometheus_client"} <= known.get(module, set())


@pytest.mark.parametrize("module", [module for package in PACKAGES for module in modules(package)])
def test_every_module_is_named_for_what_it_does(module: str) -> None:
    path = Path(module)
    assert {*path.parent.parts, path.stem}.isdisjoint(NAMELESS)


@pytest.mark.parametrize("module", [module for package in PACKAGES for module in modules(package)])
def test_every_module_can_be_read_in_one_sitting(module: str) -> None:
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) < MOST_LINES


@pytest.mark.parametrize("module", modules("benchmarks/rig"))
def test_parts_of_benchmarks_import_no_command(module: str) -> None:
    being_moved = {"benchmarks.graph", "benchmarks.ncnn_model", "benchmarks.onnx_model"}
    own = {name for name in imports_of(module) if name.startswith("benchmarks.") and name.count(".") == 1}
    assert own <= {"benchmarks.rig"} | being_moved
